//! The commands.

mod check;
mod conformance;
mod entry;
#[cfg(feature = "journal")]
mod journal;
mod list;
mod sync;

use crate::arguments::{Arguments, Command};
use crate::demo;
use crate::exit::Failure;
use tiered::Store as _;

/// Runs a command to its exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { place, json, command } = arguments;
    match command {
        Command::Get { key, output } => entry::get(&place, json, &key, output.as_deref()).await,
        Command::Put { key, file, condition } => {
            entry::put(&place, json, &key, file.as_deref(), &condition).await
        }
        Command::Delete { key, if_version } => entry::delete(&place, &key, if_version.as_deref()).await,
        Command::Head { key } => entry::head(&place, json, &key).await,
        Command::List { prefix, start_after, limit } => {
            list::run(&place, json, prefix, start_after.as_deref(), limit).await
        }
        Command::Sync { from, to, strategy, prefix, dry_run } => {
            sync::run(&sync::Order { from, to, strategy, prefix, dry_run }, json).await
        }
        Command::Check { from, to, values } => check::run(&from, &to, values, json).await,
        Command::Flush => {
            let store = crate::stack::open_tiered(&place).await?;
            let flushed = store.flush().await.map_err(Failure::from);
            closing(&store, flushed).await?;
            Ok(crate::exit::OK)
        }
        #[cfg(feature = "journal")]
        Command::Journal(command) => journal::run(&place, json, command).await,
        #[cfg(not(feature = "journal"))]
        Command::Journal(_) => Err(Failure::Usage("this build has no journal on disk".to_owned())),
        Command::Conformance { url } => conformance::run(&url, json).await,
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
