"""The portal: a page for authors, and the HTTP interface that submission systems in any language use.

It enqueues and tells of rankings; it never scores. docs/portal-api.md describes it for those who call it. The
way of one call: `app` (routes) → `gateway` (who calls, and how often) → `rankings`, `events`, `journals` →
`xuankan.Producer`.
"""
