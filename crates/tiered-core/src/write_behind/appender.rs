//! What appends to the journal, a group at a time. Whoever holds it is the only one.

use tokio::sync::mpsc::UnboundedReceiver;

use super::company::Company;
use super::request::Append;
use crate::error::{Error, ErrorKind};
use crate::sync_primitives::time::Instant;

/// What appends.
#[derive(Debug)]
pub(super) struct Appender {
    requests: UnboundedReceiver<Append>,
    company: Company,
    /// The error of every append after one that failed.
    poison: Option<Error>,
    /// Whether the store was left: nothing is appended any more.
    has_ended: bool,
}

impl Appender {
    pub(super) fn new(requests: UnboundedReceiver<Append>) -> Self {
        Self { requests, company: Company::new(), poison: None, has_ended: false }
    }

    /// The next request that was handed over. At the end it also waits for those that are just being handed over.
    pub(super) async fn next(&mut self) -> Option<Append> {
        if self.has_ended { self.requests.recv().await } else { self.requests.try_recv().ok() }
    }

    /// `first`, and what waits beside it.
    pub(super) async fn group_of(&mut self, first: Append) -> Vec<Append> {
        self.company.group_of(first, &mut self.requests).await
    }

    /// Why nothing can be appended any more, if an append failed.
    pub(super) const fn poison(&self) -> Option<&Error> {
        self.poison.as_ref()
    }

    /// An append begins. Until it has ended it counts as failed: should the journal panic, nothing is appended after it.
    pub(super) fn begin(&mut self) {
        self.poison = Some(failed_earlier());
    }

    /// The append of a group of so many requests, `begun` then, has ended; by an error that poisons the journal, or well.
    pub(super) fn appended(&mut self, requests: usize, begun: Instant, poison: Option<&Error>) {
        self.company.appended(requests, self.requests.len(), begun);
        self.poison = poison.map(|error| failed_earlier().with_source(error.clone()));
    }

    /// The store was left: what is handed over from now on is refused.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.requests.close();
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// The error of an append after one that failed.
fn failed_earlier() -> Error {
    Error::new(ErrorKind::Unavailable, "the journal failed earlier; close the store and open it again")
}
