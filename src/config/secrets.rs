//! What in a command line is a secret, as far as can be told from its looks.
//!
//! Every user of a host can read the command lines of all processes, and stanch shows some of them. The
//! signs: an option whose name says so (`--db-password X`, `API_TOKEN=X`), a URL that lets in whoever
//! knows it, and a word as only machines write them. It errs on the side of hiding.

use hyper::Uri;
use std::borrow::Cow;

/// A word as long, of letters and digits, is a key.
const KEY_LENGTH: usize = 20;

/// Parts of a name whose value is one.
const NAMES: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "credential",
    "credentials",
    "bearer",
];

/// Hosts whose URLs are secrets, whatever they look like.
const HOSTS: [&str; 6] = [
    "hooks.slack.com",
    "discord.com",
    "discordapp.com",
    "webhook.office.com",
    "logic.azure.com",
    "api.telegram.org",
];

const HIDDEN: &str = "[secret]";

/// Whether a secret stands in the command line.
pub(super) fn in_command(command: &[String]) -> bool {
    masked(command).iter().zip(command).any(|(shown, typed)| shown != typed)
}

/// The command line without its secrets.
pub fn masked(command: &[String]) -> Vec<Cow<'_, str>> {
    let named = |word: &str| !word.contains('=') && names_secret(word);
    let before = std::iter::once(false).chain(command.iter().map(|word| named(word)));
    command.iter().zip(before).map(|(word, named)| mask(word, named)).collect()
}

/// `named`: the word before says that this is one.
fn mask(word: &str, named: bool) -> Cow<'_, str> {
    let secret = |text: &str| !is_place(text) && (is_key(text) || is_secret_url(text));
    if (named && !word.starts_with('-') && !is_place(word)) || secret(word) {
        return HIDDEN.into();
    }
    match word.split_once('=') {
        Some((name, value)) if (names_secret(name) && !is_place(value)) || secret(value) => {
            format!("{name}={HIDDEN}").into()
        }
        _ => word.into(),
    }
}

/// Whether who knows the URL can do with it what it is for.
pub(super) fn holds_secret(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let known = |known: &&str| host == **known || host.ends_with(&format!(".{known}"));
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    user || uri.query().is_some()
        || HOSTS.iter().any(known)
        || uri.path().split('/').any(|part| is_mixed(part) && part.len() >= KEY_LENGTH)
}

fn is_secret_url(word: &str) -> bool {
    let uri = word.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some());
    uri.is_some_and(|uri| holds_secret(&uri))
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric()).peekable();
    let named = parts.clone().any(|part| NAMES.contains(&part));
    let api_key = name.contains("api-key") || name.contains("api_key");
    // `--token-file`: where it is, not what it is.
    let place = parts.any(|part| ["file", "path", "dir", "env"].contains(&part));
    (named || api_key) && !place
}

/// Where something is: a path, or a variable.
fn is_place(word: &str) -> bool {
    word.starts_with(['/', '.', '@', '$', '%', '{'])
}

fn is_key(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    // Words that people write are shorter between their hyphens, or have no digits.
    word.len() >= KEY_LENGTH
        && word.chars().all(plain)
        && word.split(['-', '_']).any(|part| part.len() >= KEY_LENGTH / 2 && is_mixed(part))
}

fn is_mixed(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit()) && text.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        masked(&words).join(" ")
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        for (typed, shown) in [
            ("serve --db-password hunter2 -v", "serve --db-password [secret] -v"),
            ("serve --token=abc DB_SECRET=x", "serve --token=[secret] DB_SECRET=[secret]"),
            ("serve postgres://ada:pw@db/shop", "serve [secret]"),
            ("serve --dsn=postgres://ada:pw@db/shop", "serve --dsn=[secret]"),
            ("tell https://hooks.slack.com/services/T0/B0", "tell [secret]"),
            ("serve sk_live_4eC39HqLyjWDarjtT1zdp7dc", "serve [secret]"),
        ] {
            assert_eq!(said(typed), shown);
        }
        for plain in [
            "gunicorn --workers 4 --bind 0.0.0.0:8000 shop.wsgi:application",
            "serve --token-file /run/secrets/token --password $PASSWORD --secret /run/s",
            "java -Xmx512m -jar /opt/0123456789abcdef0123456789abcdef/shop.jar",
            "node --max-old-space-size=512 server-2026-production-build.js",
            "curl http://127.0.0.1:9093/api/v2/alerts",
        ] {
            assert_eq!(said(plain), plain);
        }
    }
}
