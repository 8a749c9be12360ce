//! Reads secrets, and keeps them out of what is shown.

use crate::core::Secret;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// No key, token or URL is longer.
const LONGEST: u64 = 4096;
/// Shorter texts are no secrets, and to mask them would tear words apart.
const SHORTEST: usize = 6;

/// Why there is no secret; never holds one.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The variable is not set, or not text.
    #[error("the variable {name} is not set for stanch itself")]
    Variable {
        /// Its name.
        name: String,
    },
    /// There is nothing, or no text, or too much of it.
    #[error("{place} does not hold a secret: one line of text is needed")]
    Content {
        /// The file or variable.
        place: String,
    },
}

/// The secret: the first line without the blanks around it.
pub fn read(secret: &Secret) -> Result<String, SecretError> {
    let (text, place) = match secret {
        Secret::File(path) => {
            let mut text = String::new();
            File::open(path)
                .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
                .map_err(|source| SecretError::File { path: path.clone(), source })?;
            (text, path.display().to_string())
        }
        Secret::Variable(name) => {
            let unset = |_| SecretError::Variable { name: name.clone() };
            (std::env::var(name).map_err(unset)?, name.clone())
        }
    };
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || line.chars().any(char::is_control) {
        return Err(SecretError::Content { place });
    }
    Ok(line.to_owned())
}

/// A text of others without these secrets, and without control characters.
pub(super) fn masked(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        text = text.replace(secret.as_str(), "[secret]");
    }
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(blank).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = Secret::File(path.clone());
        assert!(matches!(read(&secret), Err(SecretError::File { .. })));
        for (text, meant) in [(" s3cret \nmore\n", Some("s3cret")), ("\n", None), ("", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&secret).ok().as_deref(), meant, "{text:?}");
        }
        let unset = Secret::Variable("STANCH_NO_SUCH_VARIABLE".to_owned());
        assert!(read(&unset).unwrap_err().to_string().contains("STANCH_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn what_a_receiver_repeats_is_masked() {
        let secrets = ["/services/T0/B0/xyz".to_owned(), "ab".to_owned()];
        let text = "no route\nPOST /services/T0/B0/xyz, about";
        assert_eq!(masked(text, &secrets), "no route POST [secret], about");
    }
}
