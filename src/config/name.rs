//! The application's name: given, or taken from its command.

use super::reader::Wrong;
use std::path::Path;

const LONGEST: usize = 64;

/// Programs that run a script; the script's name says more than theirs.
const INTERPRETERS: [&str; 9] =
    ["node", "nodejs", "bun", "deno", "python", "ruby", "perl", "php", "java"];

/// Refuses a name that could not be a file's name or would hide as one.
pub(super) fn check(name: &str) -> Result<(), Wrong> {
    let safe = sanitised(name);
    if name == safe {
        return Ok(());
    }
    Err(Wrong {
        message: format!(
            "names files, so it must be letters, digits, \".\", \"_\" and \"-\", not begin with \
             \".\" or \"-\", and have at most {LONGEST} characters"
        ),
        suggestion: (safe != FALLBACK).then(|| format!("{safe:?}")),
    })
}

const FALLBACK: &str = "app";

/// The name that a command gives: the program's, or its script's without the extension
/// (`node /srv/shop.js` is `shop`, `python3 -m http.server` is `http.server`).
pub(super) fn from_command(command: &[String]) -> String {
    let Some(program) = command.first() else { return FALLBACK.to_owned() };
    let program = file_name(program);
    let bare = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !INTERPRETERS.contains(&bare) {
        return sanitised(program);
    }
    let mut arguments = command[1..].iter();
    while let Some(argument) = arguments.next() {
        if argument == "-m" {
            return sanitised(arguments.next().map_or(program, |module| module));
        }
        if !argument.starts_with('-') {
            let script = file_name(argument);
            let stem = Path::new(script).file_stem().and_then(|stem| stem.to_str());
            return sanitised(stem.unwrap_or(script));
        }
    }
    sanitised(program)
}

fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

/// The nearest safe name; [`FALLBACK`] where nothing is left.
fn sanitised(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().map(|c| if safe(c) { c } else { '-' }).take(LONGEST).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => FALLBACK.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gives_a_name() {
        for (command, name) in [
            (&["node", "server.js"][..], "server"),
            (&["/usr/bin/node", "--max-old-space-size=400", "/srv/shop.mjs", "80"], "shop"),
            (&["python3.11", "-u", "-m", "http.server", "8000"], "http.server"),
            (&["python3", "/srv/app.tar.py"], "app.tar"),
            (&["java", "-Xmx256m", "-jar"], "java"),
            (&["gunicorn", "app:app"], "gunicorn"),
            (&["./target/release/my-server"], "my-server"),
            (&["/opt/my server"], "my-server"),
            (&["/"], "app"),
            (&[".."], "app"),
            (&[""], "app"),
            (&[], "app"),
        ] {
            let command: Vec<_> = command.iter().map(|word| word.to_string()).collect();
            assert_eq!(from_command(&command), name, "{command:?}");
        }
    }

    #[test]
    fn unsafe_names_are_refused() {
        for name in ["shop", "shop-2.b_c", "7"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, suggestion) in [
            ("my shop", Some("\"my-shop\"")),
            (".hidden", Some("\"hidden\"")),
            ("../up", Some("\"up\"")),
            ("-x", Some("\"x\"")),
            ("", None),
            ("..", None),
            ("a/b", Some("\"a-b\"")),
            ("läden", Some("\"l-den\"")),
        ] {
            let wrong = check(name).expect_err(name);
            assert_eq!(wrong.suggestion.as_deref(), suggestion, "{name}");
        }
        assert_eq!(check(&"x".repeat(64)), Ok(()));
        assert!(check(&"x".repeat(65)).is_err());
    }
}
