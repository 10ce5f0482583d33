//! I15: a backend is opened without its journal. That is refused while the journal holds writes; where a person gives the
//! journal up by name, nothing of it comes back until a person says so.

use tiered_conformance::Dice;
use tiered_core::adapter::Clock as _;
use tiered_core::{Entry, ErrorKind, Put, Store, TieredStore, Timestamp, adapter, ownership};

use crate::client::{Clients, version_of, within};
use crate::epoch::{self, PROMPT, raw};
use crate::value;
use crate::world::{Life, World};

type Checked<T> = Result<T, String>;

fn told(what: &str) -> impl Fn(tiered_core::Error) -> String {
    move |error| format!("{what}: {}", error.chain())
}

/// After a crash: the backend is opened without its journal, perhaps given up and written, and then with it.
pub(crate) async fn restart(world: &mut World, clients: &Clients, dice: &mut Dice) -> Checked<Life> {
    clients.trace.note("the backend is opened without its journal");
    let back = world.backend().await.map_err(told("opening the backend"))?;
    let named = ownership::journals(&*back).await.map_err(told("reading the mark"))?;
    let built = world.without_journal(&back).await;
    let store = match built {
        Err(error) if error.kind() == ErrorKind::Locked && !named.is_empty() => {
            if dice.below(2) == 0 {
                back.close().await.map_err(told("closing"))?;
                return epoch::open(world, clients).await;
            }
            for journal in &named {
                ownership::abandon(&*back, *journal).await.map_err(told("giving the journal up"))?;
            }
            clients.trace.note("the journal is given up");
            world.without_journal(&back).await.map_err(told("without a journal that was given up"))?
        }
        Err(error) => return Err(format!("{named:?} hold writes: {}", error.chain())),
        Ok(_) if !named.is_empty() => {
            return Err(format!("the backend was opened without its journals, and {named:?} hold writes"));
        }
        Ok(store) => store,
    };
    let before = write_alone(clients, &store, &back).await?;
    store.close().await.map_err(told("closing"))?;
    drop((store, back));
    let life = epoch::open(world, clients).await?;
    world.heal_journal();
    nothing_comes_back(clients, &life, before, world.clock.now(), dice).await?;
    Ok(life)
}

/// Writes some keys through a store without a journal; what each key had before, and has then.
async fn write_alone(
    clients: &Clients,
    store: &TieredStore,
    back: &std::sync::Arc<dyn Store>,
) -> Checked<Vec<[Option<Entry>; 2]>> {
    let mut all = Vec::new();
    for name in &clients.keys {
        let before = raw(&**back, name).await?;
        if clients.below(2) == 0 {
            let number = clients.next_value();
            let newer = adapter::with_version(Put::new(value::encode(number)), version_of(number));
            store.put(name, newer).await.map_err(told("a newer write"))?;
        }
        all.push([before, raw(&**back, name).await?]);
    }
    Ok(all)
}

async fn nothing_comes_back(
    clients: &Clients,
    life: &Life,
    before: Vec<[Option<Entry>; 2]>,
    now: Timestamp,
    dice: &mut Dice,
) -> Checked<()> {
    within(PROMPT, "flushing what was given up", life.store.flush()).await?.ok();
    let (parked, stats) = (life.store.parked(), life.store.stats());
    if stats.backlog != stats.parked {
        return Err(format!(
            "of a journal that was given up {} writes are in line",
            stats.backlog - stats.parked
        ));
    }
    for ((index, name), [before, after]) in clients.keys.iter().enumerate().zip(before) {
        if raw(&*life.back, name).await? != after {
            return Err(format!("{name}: what was given up came back"));
        }
        // What was acknowledged is in the backend, or it is parked.
        epoch::settle_parked(clients, index, &parked, before.as_ref(), now)?;
    }
    let retries = dice.below(2) == 0;
    for unit in parked {
        if retries {
            // Where a later one of its key is parked as well, that one counts.
            life.store.retry_parked(unit.sequence()).map_err(told("retrying"))?;
        } else {
            life.store.drop_parked(unit.sequence()).await.map_err(told("dropping"))?;
        }
    }
    epoch::drain(life).await?;
    for (index, name) in clients.keys.iter().enumerate() {
        clients.now_has(index, raw(&*life.back, name).await?.as_ref())?;
    }
    Ok(())
}
