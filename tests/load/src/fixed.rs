//! The fixed-answer server: Berth's own HTTP stack without Berth. What it cannot do, nobody on this stack can.

use std::{
    convert::Infallible,
    io::Write,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use daemon::{
    OnExit, Supervisor,
    http::{Listener, ServerLimits, bind_unix, serve_linked},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::net::TcpListener;

use crate::grpc;

/// What a classifier of irises answers.
const ANSWER: &str = concat!(
    r#"{"model_name":"iris","model_version":"1","outputs":["#,
    r#"{"name":"label","datatype":"INT64","shape":[1],"data":[0]},"#,
    r#"{"name":"probabilities","datatype":"FP32","shape":[1,3],"data":[0.9847032,0.015296769,6.20377e-8]}]}"#
);

#[derive(Clone, Debug, Args)]
pub(crate) struct FixedArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Answer over links on this Unix socket instead, as a runtime does behind a gateway.
    #[arg(long, conflicts_with = "listen")]
    socket: Option<PathBuf>,
    /// File with the encoded message that gRPC calls are answered with.
    #[arg(long)]
    message: Option<PathBuf>,
}

/// Serves until a signal, on as many threads as the machine has cores.
pub(crate) fn run(args: &FixedArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (listener, address) = match &args.socket {
            Some(path) => (bind_unix(path)?, path.display().to_string()),
            None => {
                let listener = TcpListener::bind(&args.listen).await?;
                let address = listener.local_addr()?.to_string();
                (Listener::Tcp(listener), address)
            }
        };
        writeln!(std::io::stdout(), "{}", serde_json::json!({ "address": address }))?;
        let supervisor = Supervisor::new();
        let message = args.message.as_ref().map(std::fs::read).transpose()?.unwrap_or_default();
        let message = grpc::frame(&message)?;
        let serving = serve_linked(listener, Fixed(message), ServerLimits::default(), supervisor.clone());
        supervisor.spawn("serve", OnExit::StopProcess, serving);
        supervisor.run(Duration::from_secs(5)).await?;
        Ok(())
    })
}

/// The same answer whatever is asked, and over whatever.
#[derive(Clone)]
struct Fixed(Bytes);

impl<B> tower::Service<Request<B>> for Fixed
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(answer(request, self.0.clone()))
    }
}

async fn answer<B: Body>(request: Request<B>, message: Bytes) -> Result<Response<Answer>, Infallible> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    // The body is read, as every server must.
    drop(request.into_body().collect().await);
    let grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let (body, kind, trailers) = if grpc {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        (message, "application/grpc", Some(trailers))
    } else {
        (Bytes::from_static(ANSWER.as_bytes()), "application/json", None)
    };
    let mut response = Response::new(Answer { body: Some(body), trailers });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// One piece of data, and for gRPC the trailers after it.
struct Answer {
    body: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.body.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.trailers.is_none()
    }
}
