//! Which action a path names: pure.

use std::borrow::Cow;

use axum::http::Method;
use inference::embeddings;

/// An action of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v2`
    Server,
    /// `/v2/health/live`
    Live,
    /// `/v2/health/ready`
    Ready,
    /// `/v2/models/{name}[/versions/{version}]`
    Metadata(Target<'a>),
    /// `…/ready`
    ModelReady(Target<'a>),
    /// `…/stats`
    Statistics(Target<'a>),
    /// `…/openapi.json`
    Contract(Target<'a>),
    /// `…/infer`
    Infer(Target<'a>),
    /// `/v1/models` and `/v2/models`
    Models,
    /// `/v1/models/{name}[/versions/{version}]:predict`
    Predict(Target<'a>),
    /// `/v1/embeddings`: the body names the model.
    Embeddings,
}

/// The model that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) version: Option<Cow<'a, str>>,
}

impl Target<'_> {
    pub(super) fn to_owned(&self) -> Target<'static> {
        let own = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        Target { name: own(&self.name), version: self.version.as_ref().map(own) }
    }
}

impl<'a> Route<'a> {
    /// Reads a path. `/v2/` is `/v2`, as the protocol's own OpenAPI file has it; other paths have no final slash.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        if path == embeddings::PATH {
            return Some(Self::Embeddings);
        }
        if let Some(rest) = path.strip_prefix("/v1/models") {
            return Self::parse_v1(rest);
        }
        let rest = path.strip_prefix("/v2")?;
        match rest {
            "" | "/" => return Some(Self::Server),
            "/health/live" => return Some(Self::Live),
            "/health/ready" => return Some(Self::Ready),
            "/models" => return Some(Self::Models),
            _ => {}
        }
        let mut segments = rest.strip_prefix("/models/")?.split('/');
        let name = segment(segments.next()?)?;
        let mut next = segments.next();
        let mut version = None;
        if next == Some("versions") {
            version = Some(segment(segments.next()?)?);
            next = segments.next();
        }
        if segments.next().is_some() {
            return None;
        }
        let target = Target { name, version };
        match next {
            None => Some(Self::Metadata(target)),
            Some("ready") => Some(Self::ModelReady(target)),
            Some("openapi.json") => Some(Self::Contract(target)),
            Some("stats") => Some(Self::Statistics(target)),
            Some("infer") => Some(Self::Infer(target)),
            Some(_) => None,
        }
    }

    /// Reads what follows `/v1/models`. The verb stands behind a colon.
    fn parse_v1(rest: &'a str) -> Option<Self> {
        if rest.is_empty() {
            return Some(Self::Models);
        }
        let rest = rest.strip_prefix('/')?;
        let (rest, predict) = match rest.strip_suffix(":predict") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        if rest.contains(':') {
            return None;
        }
        let mut segments = rest.split('/');
        let name = segment(segments.next()?)?;
        let version = match segments.next() {
            None => None,
            Some("versions") => Some(segment(segments.next()?)?),
            Some(_) => return None,
        };
        if segments.next().is_some() {
            return None;
        }
        let target = Target { name, version };
        Some(if predict { Self::Predict(target) } else { Self::ModelReady(target) })
    }

    /// The one method of the action, besides HEAD and OPTIONS.
    pub(super) fn method(&self) -> Method {
        if self.runs() { Method::POST } else { Method::GET }
    }

    /// Value of the header `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        if self.runs() { "POST, OPTIONS" } else { "GET, HEAD, OPTIONS" }
    }

    /// Whether it runs the model.
    fn runs(&self) -> bool {
        matches!(self, Self::Infer(_) | Self::Predict(_) | Self::Embeddings)
    }
}

/// Decodes `%xx`; `None` when it is malformed, empty, or not UTF-8.
fn segment(text: &str) -> Option<Cow<'_, str>> {
    if text.is_empty() {
        return None;
    }
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let code = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            bytes.push(u8::try_from(code).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::{Route, Target};

    fn target(name: &'static str, version: Option<&'static str>) -> Target<'static> {
        Target { name: name.into(), version: version.map(Into::into) }
    }

    #[test]
    fn paths_name_actions() {
        assert_eq!(Route::parse("/v2"), Some(Route::Server));
        assert_eq!(Route::parse("/v2/"), Some(Route::Server));
        assert_eq!(Route::parse("/v2/health/live"), Some(Route::Live));
        assert_eq!(Route::parse("/v2/health/ready"), Some(Route::Ready));
        assert_eq!(Route::parse("/v2/models/iris"), Some(Route::Metadata(target("iris", None))));
        assert_eq!(Route::parse("/v2/models/iris/ready"), Some(Route::ModelReady(target("iris", None))));
        assert_eq!(Route::parse("/v2/models/iris/infer"), Some(Route::Infer(target("iris", None))));
        assert_eq!(Route::parse("/v2/models/iris/versions/3"), Some(Route::Metadata(target("iris", Some("3")))));
        assert_eq!(
            Route::parse("/v2/models/iris/versions/3/ready"),
            Some(Route::ModelReady(target("iris", Some("3"))))
        );
        assert_eq!(Route::parse("/v2/models/iris/versions/3/infer"), Some(Route::Infer(target("iris", Some("3")))));
        assert_eq!(Route::parse("/v2/models/versions/infer"), Some(Route::Infer(target("versions", None))));
        assert_eq!(Route::parse("/v2/models/iris/stats"), Some(Route::Statistics(target("iris", None))));
        assert_eq!(Route::parse("/v2/models"), Some(Route::Models));
        assert_eq!(Route::parse("/v1/models"), Some(Route::Models));
        assert_eq!(Route::parse("/v1/models/iris"), Some(Route::ModelReady(target("iris", None))));
        assert_eq!(Route::parse("/v1/models/iris/versions/3"), Some(Route::ModelReady(target("iris", Some("3")))));
        assert_eq!(Route::parse("/v1/models/iris:predict"), Some(Route::Predict(target("iris", None))));
        assert_eq!(Route::parse("/v1/models/iris/versions/3:predict"), Some(Route::Predict(target("iris", Some("3")))));
        assert_eq!(Route::parse("/v1/embeddings"), Some(Route::Embeddings));
        assert_eq!(Route::parse("/v2/models/a%2Fb%20c"), Some(Route::Metadata(target("a/b c", None))));
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "/",
            "/v1",
            "/v1/embeddings/",
            "/v1/models/",
            "/v1/models/iris/",
            "/v1/models/:predict",
            "/v1/models/iris:explain",
            "/v1/models/iris:predict:predict",
            "/v1/models/iris/predict",
            "/v1/models/iris/versions",
            "/v1/models/iris/versions/:predict",
            "/v1/modelsx",
            "/v2x",
            "/v2/health",
            "/v2/health/live/",
            "/v2/models/",
            "/v2/models//infer",
            "/v2/models/iris/",
            "/v2/models/iris/versions",
            "/v2/models/iris/versions/",
            "/v2/models/iris/infer/more",
            "/v2/models/iris/versions/3/infer/more",
            "/v2/models/iris/unknown",
            "/v2/models/%",
            "/v2/models/%4",
            "/v2/models/%zz",
            "/v2/models/%ff",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
