<?php
// PHP 8, without packages: XUANKAN_PORTAL=http://... XUANKAN_API_KEY=... php recommend.php TITLE ABSTRACT

/** The journals that fit, best first: arrays with rank, score and journal (title, issns, publisher, homepage, ...). */
function recommend(string $title, string $abstract, array $filters = [], int $patience_s = 120): array
{
    [$portal, $url, $until] = [getenv('XUANKAN_PORTAL'), '/v1/rankings', time() + $patience_s];
    $ask = ['method' => 'POST', 'content' => json_encode(
        ['title' => $title, 'abstract' => $abstract, 'top_k' => 5, 'filters' => (object) $filters])];
    do { // 202: not ranked yet, ask again where it will be
        $ask += ['ignore_errors' => true, 'timeout' => 30, 'header' => [
            'Content-Type: application/json', 'Authorization: Bearer ' . getenv('XUANKAN_API_KEY')]];
        $body = file_get_contents("$portal$url?wait_s=20", false, stream_context_create(['http' => $ask]));
        $status = $body === false ? 0 : (int) explode(' ', $http_response_header[0])[1];
        $found = json_decode((string) $body, true) ?? [];
        [$url, $ask] = [$found['links']['self'] ?? $url, ['method' => 'GET']];
    } while ($status === 202 && time() < $until);
    if ($status !== 200) {
        throw new RuntimeException($found['detail'] ?? $found['title'] ?? "the portal gives no ranking ($status)");
    }
    return $found['journals'];
}

if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    foreach (recommend($argv[1], $argv[2] ?? '') as $place) {
        printf("%d %.3f %s %s\n", $place['rank'], $place['score'], $place['journal']['title'],
            implode(' ', $place['journal']['issns']));
    }
}
