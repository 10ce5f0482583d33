//! The seal: what a clean close leaves behind, so that the next opening can tell a damaged manifest from a torn one.
//!
//! RocksDB takes a manifest whose last record is cut short for the trace of a crash, and opens the state before it. A
//! flipped bit in that record's length looks the same, and would lose in silence what the record speaks of. After a
//! clean close nothing is cut short: the seal has the manifest's name, length and CRC-32C.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::io_error;

/// RocksDB leaves files alone whose names are not its own.
pub(crate) const NAME: &str = "tiered-seal";
const DRAFT: &str = "tiered-seal.new";

/// Seals a closed database.
pub(crate) fn set(folder: &Path) -> io::Result<()> {
    let draft = folder.join(DRAFT);
    let mut file = File::create(&draft)?;
    file.write_all(describe(folder)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(NAME))
}

/// Checks the seal of a database that is not open, and breaks it. One that speaks of another manifest is of an older
/// close, and says nothing.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    let seal = match fs::read_to_string(&path) {
        Ok(seal) => seal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(io_error(error)),
    };
    let now = describe(folder).map_err(io_error)?;
    let name = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    if seal != now && name(&seal) == name(&now) {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} is damaged; restore the database from another tier or a backup", name(&now)),
        ));
    }
    fs::remove_file(&path).map_err(io_error)
}

/// The current manifest: its name, its length, its checksum.
fn describe(folder: &Path) -> io::Result<String> {
    let current = fs::read(folder.join("CURRENT"))?;
    let name = String::from_utf8_lossy(&current).trim_end().to_owned();
    let manifest = fs::read(folder.join(&name))?;
    Ok(format!("{name} {} {:08x}\n", manifest.len(), crc32c::crc32c(&manifest)))
}
