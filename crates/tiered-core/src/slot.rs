//! Slots: all exceptional state of keys, in one sharded table. An idle key has no slot.
//!
//! | part | what it says about a key |
//! |---|---|
//! | [`Gate`] | a write is under way: no hits, no fills |
//! | [`Doubt`] | a change of others waits for the gate: no hits, no fills |
//! | [`Leader`] | one backend read for all readers, with the token to fill the frontend |
//! | [`Call`] | a call to the frontend that changes the key has not returned |
//! | [`Fetch`] | one backend read of a block for all its readers; by the block, in a table of its own |
//! | quarantine | the frontend may hold a wrong entry: no hits until a removal has succeeded |
//! | [`Pending`] | the latest write is acknowledged and not yet in the backend |

mod call;
mod fetch;
mod gate;
#[cfg(all(test, shuttle))]
pub(crate) mod interleavings;
mod latch;
mod leader;
mod load;
mod occupancy;
mod table;

pub(crate) use call::Call;
pub(crate) use fetch::{Fetched, Fetches, Fetching};
pub(crate) use gate::{Doubt, Gate};
pub(crate) use leader::{Joined, JoinedPart, Joining, Leader};
pub(crate) use load::Load;
pub(crate) use table::{Glance, Pending, Slots};
