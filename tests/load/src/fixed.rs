//! The fixed-answer server: Berth's own HTTP stack without Berth. What it cannot do, nobody on this stack can.

use std::{convert::Infallible, io::Write, time::Duration};

use bytes::Bytes;
use clap::Args;
use daemon::{
    OnExit, Supervisor,
    http::{Listener, ServerLimits, serve},
};
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;

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
}

/// Serves until a signal, on as many threads as the machine has cores.
pub(crate) fn run(args: &FixedArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&args.listen).await?;
        let address = listener.local_addr()?;
        writeln!(std::io::stdout(), "{}", serde_json::json!({ "address": address.to_string() }))?;
        let supervisor = Supervisor::new();
        let service = tower::service_fn(answer);
        let serving = serve(Listener::Tcp(listener), service, ServerLimits::default(), supervisor.clone());
        supervisor.spawn("serve", OnExit::StopProcess, serving);
        supervisor.run(Duration::from_secs(5)).await?;
        Ok(())
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // The body is read, as every server must.
    drop(request.into_body().collect().await);
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
