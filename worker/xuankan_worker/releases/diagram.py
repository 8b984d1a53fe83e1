"""A reliability diagram as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping

from xuankan_worker.releases.measures import Reliability

_SIZE, _MARGIN = 320, 48
_COLOURS = ("#1f6feb", "#bc4c00", "#1a7f37", "#8250df")


def reliability_svg(diagrams: Mapping[str, Reliability]) -> str:
    """Share right by probability, one line a split; on the diagonal both agree.

    Args:
        diagrams: by the split's name.
    """
    side = _SIZE + 2 * _MARGIN
    size = f'viewBox="0 0 {side} {side}" width="{side}" height="{side}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#888"/>',
        f'<path d="M{_point(0, 0)}L{_point(1, 1)}" stroke="#888" stroke-dasharray="4"/>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _place(tick, tick)
        parts += [
            f'<text x="{x:.0f}" y="{_MARGIN + _SIZE + 16}" text-anchor="middle">{tick:g}</text>',
            f'<text x="{_MARGIN - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>',
        ]
    middle, low = side // 2, side - 12
    parts += [
        f'<text x="{middle}" y="{low}" text-anchor="middle">score of the journal on top</text>',
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">share right</text>',
    ]
    for number, (name, found) in enumerate(diagrams.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [_point(part.probability, part.right) for part in found.bins]
        height = _MARGIN + 18 + 16 * number
        parts.append(f'<path d="M{"L".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [
            '<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*point.split(), colour) for point in points
        ]
        parts.append(
            f'<text x="{_MARGIN + 10}" y="{height}" fill="{colour}">{name}: error {found.error:.3f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _place(probability: float, right: float) -> tuple[float, float]:
    return _MARGIN + _SIZE * probability, _MARGIN + _SIZE * (1 - right)


def _point(probability: float, right: float) -> str:
    x, y = _place(probability, right)
    return f"{x:.1f} {y:.1f}"
