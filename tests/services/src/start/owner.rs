//! The process that containers belong to: a locked folder that they carry as a label, which the next run looks at.

use std::fs;
use std::path::Path;

use super::folder::{Folder, is_in_use};

/// The label that holds the folder of a container's owner.
pub(crate) const FOLDER: &str = "tiered.tests.folder";

/// The label that holds the machine of a container's owner.
pub(crate) const MACHINE: &str = "tiered.tests.machine";

/// This process, as an owner of containers.
#[derive(Debug)]
pub(crate) struct Owner {
    folder: Folder,
}

impl Owner {
    pub(crate) fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("tiered-services-{}", std::process::id()));
        let folder = Folder::make(path.clone()).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { folder })
    }

    /// What its containers carry.
    pub(crate) fn labels(&self) -> [(&'static str, String); 2] {
        [(FOLDER, self.folder.path().to_string_lossy().into_owned()), (MACHINE, machine())]
    }
}

/// Whether the owner with these labels is known to have ended. `None` if it ran on another machine.
pub(crate) fn has_ended(folder: &str, machine_of_owner: &str) -> Option<bool> {
    let here = machine();
    (!here.is_empty() && machine_of_owner == here).then(|| !is_in_use(Path::new(folder)))
}

/// This machine since it was started; in a container, that container. Empty where the system does not tell.
fn machine() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let parts = read("hostname").zip(read("random/boot_id"));
    parts.map(|(host, boot)| format!("{} {}", host.trim(), boot.trim())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_ended_when_its_folder_is_not_locked() {
        let owner = Owner::new().expect("made");
        let [(_, folder), (_, machine)] = owner.labels();
        if !machine.is_empty() {
            assert_eq!(has_ended(&folder, &machine), Some(false));
        }
        assert_eq!(has_ended(&folder, "another machine"), None);
        drop(owner);
        if !machine.is_empty() {
            assert_eq!(has_ended(&folder, &machine), Some(true));
        }
    }
}
