//! Two writers of one database: the second fences the first.

use anyhow::{bail, ensure};
use measure::table::Table;
use slatedb::{CloseReason, ErrorKind};

use crate::Arguments;
use crate::db;
use crate::store::Stack;

/// The database.
const PATH: &str = "fenced";

/// Writes of each.
const WRITES: u64 = 100;

/// Two processes would have a stack each, as here.
pub(crate) async fn run(arguments: &Arguments, table: &mut Table) -> anyhow::Result<()> {
    let (server, folders) = (arguments.server(), [tempfile::tempdir()?, tempfile::tempdir()?]);
    let [one, other] = &folders;
    let first_stack = Stack::open(&server, &server.endpoint, one.path()).await?;
    let first = db::open(PATH, first_stack.objects(), None).await?;
    db::put_all(&first, 0..WRITES).await?;
    let second_stack = Stack::open(&server, &server.endpoint, other.path()).await?;
    let second = db::open(PATH, second_stack.objects(), None).await?;
    db::check_all(&second, 0..WRITES).await?;
    db::put_all(&second, WRITES..2 * WRITES).await?;
    let mut acknowledged = 0;
    for number in 2 * WRITES..3 * WRITES {
        match db::put(&first, number).await {
            Ok(()) => acknowledged += 1,
            Err(error) if error.kind() == ErrorKind::Closed(CloseReason::Fenced) => {}
            Err(error) => bail!("the first writer failed, but not because it is fenced: {error}"),
        }
    }
    db::put_all(&second, 3 * WRITES..4 * WRITES).await?;
    second.close().await?;
    second_stack.close().await?;
    let third_stack = Stack::open(&server, &server.endpoint, other.path()).await?;
    let third = db::open(PATH, third_stack.objects(), None).await?;
    db::check_all(&third, (0..2 * WRITES).chain(3 * WRITES..4 * WRITES)).await?;
    for number in 2 * WRITES..3 * WRITES {
        ensure!(third.get(db::key(number)).await?.is_none(), "a refused write, {number}, is there");
    }
    third.close().await?;
    third_stack.close().await?;
    // It was closed by the second one.
    drop(first);
    first_stack.close().await?;
    table.at_most("writes that a fenced writer had acknowledged", acknowledged, 0);
    Ok(())
}
