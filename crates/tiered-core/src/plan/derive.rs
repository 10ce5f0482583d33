//! What a stack declares about itself, from what its tiers declare.

use crate::capability::{Capabilities, Durability, Feature};
use crate::policy::{ReadPolicy, WritePolicy};
use crate::settings::TieredSettings;

use super::guarantee::Guarantees;

/// What the stack declares about itself.
pub(super) fn capabilities(
    settings: &TieredSettings,
    front: &Capabilities,
    back: &Capabilities,
    guarantees: &Guarantees,
    others_write: bool,
) -> Capabilities {
    let local = settings.write_policy == WritePolicy::FrontendOnly;
    let home = if local { front } else { back };
    let limits = |front: u64, home: u64| if local { front.min(home) } else { home };
    // What only the frontend shows lasts no longer than the frontend, wherever else it is.
    let shown = match settings.read_policy {
        ReadPolicy::FrontendFirst => guarantees.durability,
        ReadPolicy::FrontendOnly => guarantees.durability.min(front.durability()),
    };
    let mut derived = Capabilities::new(format!("{}/{}", front.name(), back.name()), shown, home.sharing())
        .with_max_key(if local { front.max_key().min(back.max_key()) } else { back.max_key() })
        .with_max_value(limits(front.max_value(), home.max_value()))
        .with_request_lifetime(home.request_lifetime());
    let decides = matches!(settings.write_policy, WritePolicy::WriteBehind | WritePolicy::FrontendOnly);
    let lists_front = local || settings.read_policy == ReadPolicy::FrontendOnly;
    let lists = if lists_front { front } else { back };
    for feature in Feature::ALL.iter().copied() {
        let has = match feature {
            Feature::ConditionalPut | Feature::ConditionalDelete => decides || home.has(feature),
            Feature::AtomicBatch => !local && back.has(feature),
            Feature::KeepsMetadata | Feature::KeepsMarks | Feature::Changes => home.has(feature),
            Feature::KeepsNotes => false,
            // What others write, the frontend may never have had.
            Feature::Evicts => {
                home.has(feature) || (lists_front && (front.has(feature) || (others_write && !local)))
            }
            // A pending write is in memory, whatever the frontend is.
            Feature::Peeks => front.has(feature) || settings.write_policy == WritePolicy::WriteBehind,
            Feature::ListsMetadata | Feature::ListsExpiry => lists.has(feature),
            Feature::PartialListings => lists_front || lists.has(feature),
            Feature::UniqueValidators => back.has(feature),
            Feature::RepeatsVersions => home.has(feature) || back.has(feature),
            // What vanishes with the process is not damaged on a disk.
            Feature::DetectsCorruption => {
                back.has(feature) && (front.has(feature) || front.durability() == Durability::Volatile)
            }
        };
        if has {
            derived = derived.with(feature);
        }
    }
    derived
}
