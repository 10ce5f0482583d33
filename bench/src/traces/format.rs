//! Formats of traces: those of cache2k and of ARC.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::Trace;

/// Reads a trace: `.trace` is cache2k's, `.lis` ARC's; either may be packed, by `.xz` or `.zst`.
pub fn read(path: &Path) -> Result<Trace> {
    read_file(path).with_context(|| format!("{}", path.display()))
}

fn read_file(path: &Path) -> Result<Trace> {
    let file = BufReader::new(File::open(path)?);
    let name = path.file_name().context("it has no name")?.to_string_lossy().into_owned();
    let (mut bytes, mut plain) = (Vec::new(), name.as_str());
    let mut reader: Box<dyn Read> = if let Some(rest) = name.strip_suffix(".xz") {
        plain = rest;
        Box::new(liblzma::read::XzDecoder::new(file))
    } else if let Some(rest) = name.strip_suffix(".zst") {
        plain = rest;
        Box::new(zstd::stream::read::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    };
    reader.read_to_end(&mut bytes)?;
    let (name, keys) = match plain.rsplit_once('.') {
        Some((name, "trace")) => (name, cache2k(&bytes)?),
        Some((name, "lis")) => (name, arc(&String::from_utf8(bytes)?)?),
        _ => bail!("its name ends neither in .trace (cache2k) nor in .lis (ARC)"),
    };
    ensure!(!keys.is_empty(), "it has no accesses");
    Ok(Trace::of(name, keys.into_iter()))
}

/// Keys as big-endian numbers of four bytes.
fn cache2k(bytes: &[u8]) -> Result<Vec<u64>> {
    let (keys, rest) = bytes.as_chunks();
    ensure!(rest.is_empty(), "its size is no multiple of 4 bytes");
    Ok(keys.iter().map(|key| u64::from(u32::from_be_bytes(*key))).collect())
}

/// Lines of `start count …`: the blocks from `start`, `count` of them.
fn arc(text: &str) -> Result<Vec<u64>> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let Some((Ok(start), Ok(count))) = numbers.next().zip(numbers.next()) else {
            bail!("line {}: expected a block and a count", index + 1);
        };
        keys.extend(start..start.saturating_add(count));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_cache2k_are_big_endian() {
        assert_eq!(cache2k(&[0, 0, 1, 0, 0, 0, 0, 2]).expect("whole"), [256, 2]);
        assert!(cache2k(&[0, 0, 1]).is_err());
    }

    #[test]
    fn a_line_of_arc_is_a_run_of_blocks() {
        assert_eq!(arc("5 3 0 0\n9 1 0 1\n").expect("lines"), [5, 6, 7, 9]);
        assert!(arc("5\n").is_err());
    }

    #[test]
    fn packed_files_are_unpacked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("small.lis.zst");
        std::fs::write(&path, zstd::encode_all(&b"1 2 0 0\n1 1 0 1\n"[..], 1).expect("packed"))
            .expect("written");
        let trace = read(&path).expect("read");
        assert_eq!((trace.name.as_str(), trace.accesses, trace.keys), ("small", vec![0, 1, 0], 2));
    }
}
