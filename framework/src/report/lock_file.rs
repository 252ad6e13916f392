//! `recipe.lock.yaml`: the resolved recipe of a run, sealed by its first line.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::ReportError;
use crate::weights::atomic;

/// What is in front of the digest: a comment of YAML, so that the file is a recipe as any other.
const SEAL: &str = "# blake3 of the lines below: ";

/// Writes the recipe `yaml` to `path`.
pub(super) fn write(path: &Path, yaml: &str) -> Result<(), ReportError> {
    let digest = blake3::hash(yaml.as_bytes()).to_hex();
    Ok(atomic::write(path, |file| write!(file, "{SEAL}{digest}\n{yaml}"))?)
}

/// The recipe at `path`. One without a seal, of an older program, is taken as it is.
pub(super) fn read(path: &Path) -> Result<String, ReportError> {
    let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
    let Some((digest, yaml)) = text.strip_prefix(SEAL).and_then(|sealed| sealed.split_once('\n')) else {
        return Ok(text);
    };
    if blake3::hash(yaml.as_bytes()).to_hex().as_str() != digest.trim_end() {
        let reason = "it was altered: its blake3 is not the one in its first line; if that was meant, remove this line";
        return Err(ReportError::format(path, "resolved recipe", reason));
    }
    Ok(yaml.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_change_below_the_seal_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock.yaml");
        write(&path, "name: a\nseed: 1\n").unwrap();
        assert_eq!(read(&path).unwrap(), "name: a\nseed: 1\n");
        let whole = fs::read(&path).unwrap();
        for at in SEAL.len()..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(read(&path).is_err() || at == SEAL.len() + 64, "byte {at}");
        }
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("it was altered"));
    }

    #[test]
    fn a_recipe_of_an_older_program_has_no_seal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.lock.yaml");
        fs::write(&path, "name: a\n").unwrap();
        assert_eq!(read(&path).unwrap(), "name: a\n");
    }
}
