//! Style sheet, script and icon: in the program, named by their content, so that browsers keep them for good.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

/// A file that pages refer to.
pub(super) struct Asset {
    path: String,
    kind: &'static str,
    text: &'static str,
}

/// How everything looks.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));
/// What is better with a script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("lifeboat", "js", "text/javascript; charset=utf-8", include_str!("assets/lifeboat.js"))
});
/// For the browser's tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, text: &'static str) -> Asset {
        let digest = hex::encode(Sha256::digest(text));
        Asset { path: format!("/assets/{name}-{}.{ending}", &digest[..12]), kind, text }
    }

    /// Where pages find it.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// `GET /assets/{file}`. An older name is not there any more: what it would show does not fit the page.
pub(super) async fn asset(Path(file): Path<String>) -> Response {
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let Some(asset) = all.into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(file.as_str())) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, asset.text).into_response()
}

/// Puts all files into a folder, for pages that are looked at without a daemon.
#[cfg(test)]
pub(super) fn keep(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("assets")).unwrap();
    for asset in [&*STYLE, &*SCRIPT, &*ICON] {
        std::fs::write(folder.join(asset.path.trim_start_matches('/')), asset.text).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_content() {
        let one = Asset::new("style", "css", "text/css", "a");
        let other = Asset::new("style", "css", "text/css", "b");
        assert_ne!(one.path, other.path);
        assert!(STYLE.path().starts_with("/assets/style-") && STYLE.path().ends_with(".css"));
    }

    #[test]
    fn the_script_is_small_and_nothing_is_fetched_from_elsewhere() {
        assert!(SCRIPT.text.lines().count() <= 200);
        for asset in [&*STYLE, &*SCRIPT] {
            assert!(!asset.text.contains("://"), "{}", asset.path);
        }
    }
}
