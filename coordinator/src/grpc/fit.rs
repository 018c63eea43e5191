//! Answers that fit into one message: pages shrink, and leases that would not arrive go back.

use quire_proto::grpc::MAX_MESSAGE_BYTES;
use quire_proto::v1;
use quire_proto::{CallError, Reason, WorkerCalls};

use crate::handle::CoordinatorHandle;

/// Room for framing.
const ROOM: usize = MAX_MESSAGE_BYTES - 64 * 1024;
/// What a page size of 0 means.
const PAGE_SIZE: u32 = 100;

/// A request for a page.
pub(super) trait Paged: Clone {
    fn page_size(&mut self) -> &mut u32;
}

/// A message whose encoded length is known.
pub(super) trait Measured {
    fn bytes(&self) -> usize;
}

macro_rules! paged {
    ($($request:ident -> $response:ident,)*) => {$(
        impl Paged for v1::$request {
            fn page_size(&mut self) -> &mut u32 {
                &mut self.page_size
            }
        }
        impl Measured for v1::$response {
            fn bytes(&self) -> usize {
                prost::Message::encoded_len(self)
            }
        }
    )*};
}

paged! {
    ListJobsRequest -> ListJobsResponse,
    ListShardsRequest -> ListShardsResponse,
    ListQuarantineRequest -> ListQuarantineResponse,
    ListVersionsRequest -> ListVersionsResponse,
}

/// Answers with a page that fits, asking for a shorter one as long as it does not.
pub(super) async fn page<Q, A, F>(mut request: Q, ask: impl Fn(Q) -> F) -> Result<A, CallError>
where
    Q: Paged,
    A: Measured,
    F: Future<Output = Result<A, CallError>>,
{
    loop {
        let answer = ask(request.clone()).await?;
        let page_size = request.page_size();
        let asked = if *page_size == 0 {
            PAGE_SIZE
        } else {
            *page_size
        };
        if answer.bytes() <= ROOM || asked == 1 {
            return Ok(answer);
        }
        *page_size = asked.div_ceil(4).min(asked - 1);
    }
}

/// Gives the leases back that do not fit: one that is granted and never arrives would be taken
/// from everybody until it expires.
pub(super) async fn leases(
    handle: &CoordinatorHandle,
    session_id: String,
    mut answer: v1::AcquireResponse,
) -> Result<v1::AcquireResponse, CallError> {
    let mut bytes = 0;
    let n_fit = answer
        .leases
        .iter()
        .take_while(|lease| {
            bytes += prost::Message::encoded_len(*lease) + 8;
            bytes <= ROOM
        })
        .count();
    let rest = answer.leases.split_off(n_fit);
    if rest.is_empty() {
        return Ok(answer);
    }
    handle
        .release(v1::ReleaseRequest {
            session_id,
            lease_ids: rest.into_iter().map(|lease| lease.lease_id).collect(),
            reason: "the leases did not fit into one message".to_owned(),
            end_session: false,
        })
        .await?;
    if answer.leases.is_empty() {
        let message =
            "a single lease is longer than a message: its job's specification is too long";
        return Err(CallError::new(Reason::MessageTooLarge, message));
    }
    Ok(answer)
}
