//! Reads a TOML document key by key and collects what is wrong with it.
//!
//! There is no separate list of known keys: a key is known because it was asked for. What nobody
//! asked for is left over when the document is finished, and is reported with the nearest of the
//! known ones.

use super::error::{ConfigError, Place, Problems};
use super::suggest::nearest;
use crate::core::{Given, Secret};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with the key that it was given for and the place where.
#[derive(Clone, Debug)]
pub(super) struct Typed<T> {
    pub value: T,
    pub key: String,
    pub place: Place,
}

impl<T> Typed<T> {
    /// What to blame when this value turns out wrong.
    pub fn at(&self) -> At<'_> {
        At { key: &self.key, place: self.place }
    }
}

/// A key and where its value was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'k> {
    pub key: &'k str,
    pub place: Place,
}

/// Why a text is not what a key needs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wrong {
    pub message: String,
    pub suggestion: Option<String>,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Wrong { message, suggestion: None }
    }
}

/// What is written as a string in the file and as an argument on the command line.
pub(super) trait FromText: Sized {
    /// What a value of another type is told to be: `must be …`.
    const WHAT: &'static str;
    /// Whether a number of the file may stand without quotes.
    const BARE_NUMBER: bool = false;
    /// Reads it.
    fn from_text(text: &str) -> Result<Self, Wrong>;
}

/// Said of a key whose feature is not built yet.
pub(super) const LATER: &str = "known, but not available in this version of stanch";

/// A document being read.
pub(super) struct Document<'i> {
    text: &'i str,
    root: DeTable<'i>,
    problems: Problems,
    /// Lines that are not TOML: what was read from them means nothing.
    broken: BTreeSet<usize>,
    known: Vec<(String, String)>,
    unknown: Vec<(String, String, Place)>,
    /// Sections that there may be several of: a key has no one home there.
    plural: Vec<String>,
}

/// A section of a document; keys are taken out of it until it is empty.
pub(super) struct Section<'d, 'i> {
    name: String,
    table: DeTable<'i>,
    document: &'d mut Document<'i>,
}

impl<'i> Document<'i> {
    /// Parses `text`; syntax errors are collected, and what can be read in spite of them is read.
    pub fn parse(text: &'i str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            text,
            root: root.into_inner(),
            problems: Problems::default(),
            broken: BTreeSet::new(),
            known: Vec::new(),
            unknown: Vec::new(),
            plural: Vec::new(),
        };
        for (i, error) in errors.iter().enumerate() {
            // An array without its end swallows the lines below it and finds no comma in any.
            let message = error.message();
            if message.starts_with("missing comma")
                && errors[..i].iter().any(|earlier| earlier.message() == message)
            {
                continue;
            }
            let span = error.span().unwrap_or(text.len()..text.len());
            let place = document.place(&span);
            // One slip often makes several errors; the first of a line is the one that says it.
            if let Place::File { line, .. } = place
                && document.broken.insert(line)
            {
                document.problems.refuse(place, "", syntax_message(error, text.get(span)));
            }
        }
        document
    }

    /// Reads a section, an empty one where the document has none.
    pub fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_, 'i>) -> T) -> T {
        self.known.push((String::new(), name.to_owned()));
        let table = match self.root.remove_entry(name) {
            None => DeTable::new(),
            Some((key, value)) => {
                let place = self.place(&key.span());
                self.table(place, name, value)
            }
        };
        self.read_table(name.to_owned(), table, read)
    }

    /// Sections of one name, `[[name]]`, each read with its place.
    pub fn sections<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Section<'_, 'i>, Place) -> T,
    ) -> Vec<T> {
        self.known.push((String::new(), name.to_owned()));
        self.plural.push(name.to_owned());
        let tables = match self.root.remove_entry(name) {
            // Read all the same, so that its keys are known.
            None => {
                self.read_table(name.to_owned(), DeTable::new(), |s| read(s, Place::Nowhere));
                return Vec::new();
            }
            Some((key, value)) => {
                let place = self.place(&key.span());
                self.tables(place, name, value, format!("must be sections, [[{name}]]"))
            }
        };
        let read = |(place, table)| self.read_table(name.to_owned(), table, |s| read(s, place));
        tables.into_iter().map(read).collect()
    }

    /// Reports what nobody asked for, and gives all that was found wrong.
    pub fn finish(mut self) -> Problems {
        let mut unplaced = std::mem::take(&mut self.root);
        if !self.broken.is_empty() {
            // Behind a broken header, keys stand in the wrong section or in none.
            unplaced.clear();
        }
        for (key, value) in unplaced {
            let place = self.place(&key.span());
            let kind = if value.get_ref().is_table() { "section" } else { "key" };
            let key = key.into_inner();
            let sections = self.keys_of("");
            let home = self.home_of(&key).filter(|_| kind == "key");
            let near = || nearest(&key, sections.iter().copied()).map(|name| format!("[{name}]"));
            let wrong =
                Wrong { message: format!("unknown {kind}"), suggestion: home.or_else(near) };
            self.problem(place, &dotted("", &key), wrong);
        }
        for (section, key, place) in std::mem::take(&mut self.unknown) {
            let siblings = self.keys_of(&section);
            let near = nearest(&key, siblings.iter().copied()).map(str::to_owned);
            let suggestion = near.or_else(|| self.home_of(&key));
            let wrong = Wrong { message: "unknown key".to_owned(), suggestion };
            self.problem(place, &dotted(&section, &key), wrong);
        }
        self.problems
    }

    /// All keys asked for, as `(section, key)`; sections themselves stand in the section `""`.
    #[cfg(test)]
    pub fn known(&self) -> &[(String, String)] {
        &self.known
    }

    /// The keys of a section.
    fn keys_of(&self, section: &str) -> Vec<&str> {
        self.known.iter().filter(|(of, _)| of == section).map(|(_, key)| key.as_str()).collect()
    }

    /// The section in which a key of this name would be known: `[memory] soft_limit`. Of several it is
    /// `[app]`, the one that people forget to open, or none.
    fn home_of(&self, key: &str) -> Option<String> {
        let one = |of: &str| {
            let top = of.split('.').next().unwrap_or_default();
            !of.is_empty() && !self.plural.iter().any(|plural| plural == top)
        };
        let homes = self.known.iter().filter(|(of, name)| one(of) && name == key);
        let homes: Vec<&str> = homes.map(|(section, _)| section.as_str()).collect();
        let section = match homes[..] {
            [only] => only,
            _ => homes.into_iter().find(|section| *section == "app")?,
        };
        Some(format!("[{section}] {key}"))
    }

    fn table(&mut self, place: Place, name: &str, value: Spanned<DeValue<'i>>) -> DeTable<'i> {
        match value.into_inner() {
            DeValue::Table(table) => table,
            other => {
                let message = format!("must be a section, [{name}], not {}", article(&other));
                self.problem(place, name, message.into());
                DeTable::new()
            }
        }
    }

    /// The tables of an array, with their places; one alone is an array of one where it stands in a
    /// section.
    fn tables(
        &mut self,
        place: Place,
        name: &str,
        value: Spanned<DeValue<'i>>,
        must: String,
    ) -> Vec<(Place, DeTable<'i>)> {
        let inside = name.contains('.');
        let items = match value.get_ref() {
            DeValue::Array(_) => match value.into_inner() {
                DeValue::Array(items) => items.into_iter().collect(),
                _ => Vec::new(),
            },
            DeValue::Table(_) if inside => vec![value],
            other => {
                let message = format!("{must}, not {}", article(other));
                self.problem(place, name, message.into());
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for item in items {
            let place = self.place(&item.span());
            match item.into_inner() {
                DeValue::Table(table) => tables.push((place, table)),
                other => {
                    let message = format!("{must}, not {}", article(&other));
                    self.problem(place, name, message.into());
                }
            }
        }
        tables
    }

    fn read_table<T>(
        &mut self,
        name: String,
        table: DeTable<'i>,
        read: impl FnOnce(&mut Section<'_, 'i>) -> T,
    ) -> T {
        let mut section = Section { name, table, document: self };
        let value = read(&mut section);
        let Section { name, table, .. } = section;
        for (key, _) in table {
            let place = self.place(&key.span());
            self.unknown.push((name.clone(), key.into_inner().into_owned(), place));
        }
        value
    }

    fn problem(&mut self, place: Place, key: &str, wrong: Wrong) {
        if let Place::File { line, .. } = place
            && self.broken.contains(&line)
        {
            return;
        }
        let Wrong { message, suggestion } = wrong;
        self.problems.add(ConfigError { place, key: key.to_owned(), message, suggestion });
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

impl<'i> Section<'_, 'i> {
    /// A string that means a `T`.
    pub fn text<T: FromText>(&mut self, key: &str) -> Option<Typed<T>> {
        let value = self.take(key)?;
        self.read_text(key, &value)
    }

    /// A list of strings (or numbers) that mean a `T` each, those that can be read; one alone is a list
    /// of one.
    pub fn list<T: FromText>(&mut self, key: &str) -> Option<Typed<Vec<Typed<T>>>> {
        let value = self.take(key)?;
        let place = self.document.place(&value.span());
        let items = match value.get_ref() {
            DeValue::Array(items) => {
                items.iter().filter_map(|item| self.read_text(key, item)).collect()
            }
            DeValue::String(_) => vec![self.read_text(key, &value)?],
            DeValue::Integer(_) if T::BARE_NUMBER => vec![self.read_text(key, &value)?],
            other => {
                let items = if T::BARE_NUMBER { "numbers" } else { "strings" };
                let message = format!("must be an array of {items}, not {}", article(other));
                self.wrong(place, key, message.into());
                return None;
            }
        };
        Some(Typed { value: items, key: self.key(key), place })
    }

    /// A command: an array of strings, never a shell string.
    pub fn command(&mut self, key: &str) -> Option<Typed<Vec<String>>> {
        if let Some(value) = self.table.get(key)
            && let DeValue::String(line) = value.get_ref()
        {
            let place = self.document.place(&value.span());
            let words: Vec<&str> = line.split_whitespace().collect();
            // Only where no shell would have had a part in it is the split plain.
            let plain = line.chars().all(|c| c.is_alphanumeric() || " -_./:=,@+".contains(c));
            let wrong = Wrong {
                message: "must be an array of strings, one an argument; no shell reads it"
                    .to_owned(),
                suggestion: (plain && !words.is_empty()).then(|| format!("{words:?}")),
            };
            self.take(key);
            self.wrong(place, key, wrong);
            return None;
        }
        let list = self.list::<String>(key)?;
        let value = list.value.into_iter().map(|item| item.value).collect();
        Some(Typed { value, key: list.key, place: list.place })
    }

    /// A whole number, zero or more.
    pub fn integer(&mut self, key: &str) -> Option<Typed<u32>> {
        let value = self.take(key)?;
        let place = self.document.place(&value.span());
        let wrong = match value.get_ref() {
            DeValue::Integer(number) => {
                match u32::from_str_radix(number.as_str(), number.radix()) {
                    Ok(value) => return Some(Typed { value, key: self.key(key), place }),
                    Err(_) if number.as_str().starts_with('-') => {
                        "must not be negative".to_owned().into()
                    }
                    Err(_) => "is too large".to_owned().into(),
                }
            }
            DeValue::String(text) => Wrong {
                message: "must be a whole number, without quotes".to_owned(),
                suggestion: text.parse::<u32>().ok().map(|number| number.to_string()),
            },
            other => format!("must be a whole number, not {}", article(other)).into(),
        };
        self.wrong(place, key, wrong);
        None
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Option<Typed<bool>> {
        let value = self.take(key)?;
        let place = self.document.place(&value.span());
        if let DeValue::Boolean(value) = *value.get_ref() {
            return Some(Typed { value, key: self.key(key), place });
        }
        let message = format!("must be true or false, not {}", article(value.get_ref()));
        self.wrong(place, key, message.into());
        None
    }

    /// A table inside the section, read like a section.
    pub fn table<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Section<'_, 'i>) -> T,
    ) -> Option<T> {
        let name = self.key(key);
        let value = self.take(key)?;
        let place = self.document.place(&value.span());
        let table = self.document.table(place, &name, value);
        Some(self.document.read_table(name, table, read))
    }

    /// A table, or an array of them, each read like a section, with its place.
    pub fn tables<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Section<'_, 'i>, Place) -> T,
    ) -> Option<Vec<T>> {
        let name = self.key(key);
        let Some(value) = self.take(key) else {
            // So that its keys are known.
            self.document.read_table(name, DeTable::new(), |s| read(s, Place::Nowhere));
            return None;
        };
        let place = self.document.place(&value.span());
        let must = "must be a table, { … }, or an array of tables".to_owned();
        let tables = self.document.tables(place, &name, value, must);
        let read =
            |(place, table)| self.document.read_table(name.clone(), table, |s| read(s, place));
        Some(tables.into_iter().map(read).collect())
    }

    /// A text, or where a secret is: `{ file = "PATH" }` or `{ env = "NAME" }`.
    pub fn given(&mut self, key: &str) -> Option<Typed<Given>> {
        let value = self.table.get(key);
        let Some(DeValue::Table(table)) = value.map(Spanned::get_ref) else {
            let Typed { value, key, place } = self.text::<String>(key)?;
            return Some(Typed { value: Given::Plain(value), key, place });
        };
        let one = table.contains_key("file") != table.contains_key("env");
        let place = self.document.place(&value?.span());
        let (file, variable) =
            self.table(key, |s| (s.text::<PathBuf>("file"), s.text::<String>("env")))?;
        if !one {
            let message =
                "must name a file or a variable: { file = \"PATH\" } or { env = \"NAME\" }";
            self.wrong(place, key, message.to_owned().into());
        }
        let secret = file.map(|file| Secret::File(file.value));
        let secret = secret.or(variable.map(|name| Secret::Variable(name.value)))?;
        Some(Typed { value: Given::Secret(secret), key: self.key(key), place })
    }

    /// A table of strings under names that the user chooses. Its values may be secrets: no message
    /// holds one.
    pub fn secrets(&mut self, key: &str) -> Vec<Typed<(String, String)>> {
        let name = self.key(key);
        let Some(value) = self.take(key) else { return Vec::new() };
        let place = self.document.place(&value.span());
        let mut entries = Vec::new();
        for (variable, value) in self.document.table(place, &name, value) {
            let place = self.document.place(&variable.span());
            let variable = variable.into_inner().into_owned();
            let key = dotted(&name, &variable);
            match value.get_ref() {
                DeValue::String(text) if !text.contains('\0') => {
                    let value = (variable, text.to_string());
                    entries.push(Typed { value, key, place });
                }
                DeValue::String(_) => {
                    self.document.problem(place, &key, NUL.to_owned().into());
                }
                other => {
                    let message = format!("must be a string, in quotes, not {}", article(other));
                    self.document.problem(place, &key, message.into());
                }
            }
        }
        entries
    }

    /// A key whose feature is not built yet.
    pub fn later(&mut self, key: &str) {
        if let Some((name, _)) = self.take_entry(key) {
            let place = self.document.place(&name.span());
            self.wrong(place, key, LATER.to_owned().into());
        }
    }

    fn read_text<T: FromText>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
    ) -> Option<Typed<T>> {
        let place = self.document.place(&value.span());
        // A number may lack its unit, or just its quotes; what the text of it means tells.
        let number = |text: String| match T::from_text(&text) {
            Ok(_) if !T::BARE_NUMBER => Err(Wrong {
                message: format!("must be {}, in quotes", T::WHAT),
                suggestion: Some(format!("{text:?}")),
            }),
            read => read,
        };
        let read = match value.get_ref() {
            DeValue::String(text) => read_text(text),
            DeValue::Integer(integer) => number(integer.to_string()),
            DeValue::Float(float) => number(float.to_string()),
            other => Err(format!("must be {}, not {}", T::WHAT, article(other)).into()),
        };
        match read {
            Ok(value) => Some(Typed { value, key: self.key(key), place }),
            Err(wrong) => {
                self.wrong(place, key, wrong);
                None
            }
        }
    }

    fn take_entry(
        &mut self,
        key: &str,
    ) -> Option<(Spanned<toml::de::DeString<'i>>, Spanned<DeValue<'i>>)> {
        self.document.known.push((self.name.clone(), key.to_owned()));
        self.table.remove_entry(key)
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        self.take_entry(key).map(|(_, value)| value)
    }

    fn key(&self, key: &str) -> String {
        dotted(&self.name, key)
    }

    fn wrong(&mut self, place: Place, key: &str, wrong: Wrong) {
        let key = self.key(key);
        self.document.problem(place, &key, wrong);
    }
}

const NUL: &str = "holds a NUL character, which no argument, name or path can";

/// Reads a text from the file or from a flag.
pub(super) fn read_text<T: FromText>(text: &str) -> Result<T, Wrong> {
    if text.contains('\0') {
        return Err(NUL.to_owned().into());
    }
    T::from_text(text)
}

/// `section.key`, quoted like TOML would where it is not a bare key.
fn dotted(section: &str, key: &str) -> String {
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if section.is_empty() { key } else { format!("{section}.{key}") }
}

/// The type of a value, with its article.
fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What the parser says, in words for people. Its own display quotes the line, which may hold a
/// secret: the text is only looked at here, never repeated.
fn syntax_message(error: &toml::de::Error, text: Option<&str>) -> String {
    let bare_word = text.is_some_and(|t| t.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let said = match error.message() {
        "duplicate key" => "this key or section was given before",
        said if said.starts_with("string values must be quoted") && !bare_word => {
            "a value is missing or has no quotes"
        }
        said if bare_word
            && (said.starts_with("string values must be quoted")
                || said.starts_with("invalid boolean")) =>
        {
            "words, sizes and durations are strings, in quotes, as in \"512MiB\""
        }
        said => said,
    };
    format!("not valid TOML: {said}")
}
