//! What a receiver that merges each stamped metric once says with every answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::server::NamedService;

use crate::ack;

/// A service whose every answer, a refusal too, says that repeats are recognised: [`ack::DEDUP`].
///
/// A global does so by itself. For a proxy it holds because it holds for the globals behind it; for one that has shown that it does not recognise
/// repeats the proxy asks for none: what that one may have merged counts as lost.
#[derive(Debug, Clone)]
pub struct RepeatsRecognised<S>(pub S);

impl<S: NamedService> NamedService for RepeatsRecognised<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, In, Out> Service<Request<In>> for RepeatsRecognised<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            let yes = HeaderValue::from_static("1");
            answer.headers_mut().insert(ack::DEDUP, yes);
            Ok(answer)
        })
    }
}
