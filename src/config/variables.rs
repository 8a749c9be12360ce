//! A file of variables for the environment of workers.

/// Its `NAME=VALUE` lines, without `export ` before and quotes around the value; blank ones and comments
/// (`#`) are passed over.
///
/// # Errors
/// The number of the first line that is none; the line itself may be a secret.
pub fn variables(text: &str) -> Result<Vec<(&str, &str)>, usize> {
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(number + 1)?;
        let name = name.trim().trim_start_matches("export ").trim();
        let value = value.trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| {
            value.strip_prefix(*quote).and_then(|value| value.strip_suffix(*quote))
        });
        variables.push((name, unquoted.unwrap_or(value)));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_people_write_them() {
        let text = "# a comment\n\nA=1\n export B = 'two words' \nC=\"x=y\"\nD=\n";
        let expected = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        assert_eq!(variables(text), Ok(expected.to_vec()));
        assert_eq!(variables("A=1\n\nnovalue\n"), Err(3));
    }
}
