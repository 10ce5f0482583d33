//! Panics of foreign code, as errors.

use std::any::Any;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::error::{Error, ErrorKind, Result};

/// Makes a call of foreign code. A panic in it is an error that says `message`.
pub(crate) async fn contained<T>(message: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    // The code answers for its own state; nothing of the engine is borrowed mutably by a call.
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| {
        let panicked = Panicked(message_of(panic.as_ref()).to_owned());
        Err(Error::new(ErrorKind::Other, message).with_source(panicked))
    })
}

/// Whether an error stands for a panic.
pub(crate) fn is_panic(error: &Error) -> bool {
    error.source().is_some_and(<dyn std::error::Error>::is::<Panicked>)
}

/// What the code said as it panicked.
#[derive(Debug)]
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
