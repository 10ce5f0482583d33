//! The commands.

mod check;
mod conformance;
mod entry;
mod gc;
mod import;
#[cfg(feature = "journal")]
mod journal;
mod lifecycle;
mod list;
mod replay;
mod sync;
mod walk;

use crate::arguments::{Arguments, Command};
use crate::demo;
use crate::exit::Failure;
use tiered::{Schemes, Store as _, Unflushed};

/// Runs a command to its exit code.
pub(crate) async fn run(schemes: &Schemes, arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { place, json, command } = arguments;
    match command {
        Command::Get { key, output } => entry::get(schemes, &place, json, &key, output.as_deref()).await,
        Command::Put { key, file, condition } => {
            entry::put(schemes, &place, json, &key, file.as_deref(), &condition).await
        }
        Command::Delete { key, if_version } => {
            entry::delete(schemes, &place, &key, if_version.as_deref()).await
        }
        Command::Head { key } => entry::head(schemes, &place, json, &key).await,
        Command::List { prefix, start_after, limit } => {
            list::run(schemes, &place, json, prefix, start_after.as_deref(), limit).await
        }
        Command::Sync(order) => sync::run(schemes, &order, json).await,
        Command::Walk(order) => walk::run(schemes, order, json).await,
        Command::Import(what) => import::run(schemes, what, json).await,
        Command::Replay(order) => replay::run(schemes, &order, json).await,
        Command::Check { from, to, chosen, values } => {
            check::run(schemes, &from, &to, &chosen, values, json).await
        }
        Command::Gc(order) => gc::run(schemes, &place, json, order).await,
        Command::Flush => {
            let store = crate::stack::open_tiered(schemes, &place).await?;
            let flushed = store.flush().await.map_err(Failure::from);
            closing(&store, flushed).await?;
            Ok(crate::exit::OK)
        }
        #[cfg(feature = "journal")]
        Command::Journal(command) => journal::run(schemes, &place, json, command).await,
        #[cfg(not(feature = "journal"))]
        Command::Journal(_) => Err(Failure::Usage("this build has no journal on disk".to_owned())),
        Command::Create => lifecycle::create(schemes, &place, json).await,
        Command::Exists => lifecycle::exists(schemes, &place, json).await,
        Command::Destroy { yes, discard_unflushed } => {
            let unflushed = if discard_unflushed { Unflushed::Discard } else { Unflushed::Refuse };
            lifecycle::destroy(schemes, &place, yes, unflushed).await
        }
        Command::Id => lifecycle::id(schemes, &place, json).await,
        Command::Conformance { url } => conformance::run(schemes, &url, json).await,
        Command::Demo { dir, data } => demo::run(&dir, data).await,
    }
}

/// Closes a store after a command, without hiding the command's own error.
async fn closing<T>(store: &dyn tiered::Store, result: Result<T, Failure>) -> Result<T, Failure> {
    let closed = store.close().await;
    let done = result?;
    closed?;
    Ok(done)
}
