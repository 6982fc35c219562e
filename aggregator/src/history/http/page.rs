//! The page `/cubism`: horizon charts of what a pattern finds, drawn by Cubism and D3.
//!
//! Both are embedded as their authors published them on npm (`cubism` 1.6.0 and `d3` 3.5.17, the last version that it works with), with their licences
//! beside them. Like all our pages it loads nothing from elsewhere and puts names from the network into the document as text only.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// As that of the other pages; its form names this page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Path, kind and content of each file.
const FILES: [(&str, &str, &str); 7] = [
    (
        "/cubism",
        "text/html; charset=utf-8",
        include_str!("../../page/cubism/index.html"),
    ),
    (
        "/cubism/page.js",
        SCRIPT,
        include_str!("../../page/cubism/page.js"),
    ),
    (
        "/cubism/page.css",
        "text/css; charset=utf-8",
        include_str!("../../page/cubism/page.css"),
    ),
    (
        "/cubism/d3.v3.min.js",
        SCRIPT,
        include_str!("../../page/vendor/d3/d3.min.js"),
    ),
    (
        "/cubism/d3.LICENSE",
        TEXT,
        include_str!("../../page/vendor/d3/LICENSE"),
    ),
    (
        "/cubism/cubism.v1.min.js",
        SCRIPT,
        include_str!("../../page/vendor/cubism/cubism.v1.min.js"),
    ),
    (
        "/cubism/cubism.LICENSE",
        TEXT,
        include_str!("../../page/vendor/cubism/LICENSE"),
    ),
];

/// The page and the files that it needs; `/page/style.css` is the other page's.
pub(super) fn routes() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            router.route(path, get(async || answer(kind, content)))
        })
}

fn answer(kind: &'static str, content: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        content,
    )
}
