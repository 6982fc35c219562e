//! The page that a program shows at `/`: hand-written, embedded, without anything from elsewhere.
//!
//! A program brings its HTML and its script; style and helpers are shared. The page asks `/api/status` again and again. Names and tags come from
//! the network: scripts put them into the document as text only, and the policy below lets nothing run or load that is not one of these files.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// One program's own part.
#[derive(Debug)]
pub struct Page {
    /// The document. It names `page/style.css`, `page/shared.js`, `page/page.js` and `page/icon.svg`, and holds no script or style itself.
    pub html: &'static str,
    /// What fills it.
    pub script: &'static str,
}

/// Nothing inline, nothing from elsewhere, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/` and the files that it needs.
pub fn routes(page: &'static Page) -> Router {
    let file = |kind: &'static str, text: &'static str| get(async move || answer(kind, text));
    Router::new()
        .route("/", file("text/html; charset=utf-8", page.html))
        .route(
            "/page/page.js",
            file("text/javascript; charset=utf-8", page.script),
        )
        .route(
            "/page/shared.js",
            file("text/javascript; charset=utf-8", include_str!("shared.js")),
        )
        .route(
            "/page/style.css",
            file("text/css; charset=utf-8", include_str!("style.css")),
        )
        .route(
            "/page/icon.svg",
            file("image/svg+xml", include_str!("icon.svg")),
        )
}

fn answer(kind: &'static str, text: &'static str) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            // After an update the page is the new program's.
            (header::CACHE_CONTROL, "no-cache"),
        ],
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[test]
    fn nothing_inline_or_from_elsewhere_may_run() {
        let answer = answer("text/html; charset=utf-8", "page").into_response();
        assert_eq!(answer.status(), StatusCode::OK);
        let policy = &answer.headers()[header::CONTENT_SECURITY_POLICY];
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "));
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
    }

    #[test]
    fn the_shared_script_writes_text_only() {
        let code = include_str!("shared.js");
        let code = code.lines().filter(|line| !line.starts_with("//"));
        for line in code {
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!line.contains(bad), "{line}");
            }
        }
    }
}
