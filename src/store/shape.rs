//! Whether the tables, indexes and triggers of a store are those that stanch makes.
//!
//! The chain covers what events say, and not by what they are found: a table whose computed column reads
//! another key, by a flipped bit or by a hand, hides events from every question; a trigger that is gone no
//! longer holds the log against mistakes, one that is not stanch's can change whatever is written. SQLite keeps
//! all of them as the text that made them (`sqlite_schema`), so they are compared with that of a new store of
//! the same version, made in memory. Tables, views and indexes of others do no harm and are let be.

use super::schema::{MIGRATIONS, corrupt};
use rusqlite::{Connection, Transaction};
use std::collections::BTreeMap;
use std::fmt;

/// Type and name of what SQLite keeps, with its table and the text that made it.
type Objects = BTreeMap<(String, String), (String, String)>;

/// A difference.
#[derive(Debug)]
pub(super) struct Fault {
    object: (String, String),
    what: &'static str,
    /// As it should be; nothing where it should not be at all.
    expected: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object: (kind, name), what, .. } = self;
        write!(f, "the {kind} {name} {what}")
    }
}

/// What differs in a store of this schema version.
pub(super) fn faults(connection: &Connection, version: i64) -> rusqlite::Result<Vec<Fault>> {
    let model = Connection::open_in_memory()?;
    for migration in MIGRATIONS.iter().take(usize::try_from(version).unwrap_or(0)) {
        model.execute_batch(migration)?;
    }
    let (model, mut found) = (objects(&model)?, objects(connection)?);
    let mut faults = Vec::new();
    for (object, (table, text)) in &model {
        let what = match found.remove(object) {
            Some(as_found) if as_found == (table.clone(), text.clone()) => continue,
            Some(_) => "is not as stanch makes it",
            None => "is missing",
        };
        faults.push(Fault { object: object.clone(), what, expected: Some(text.clone()) });
    }
    let ours = |table: &String| model.contains_key(&("table".to_owned(), table.clone()));
    for (object, (table, _)) in found {
        if object.0 == "trigger" && ours(&table) {
            faults.push(Fault { object, what: "is not stanch's", expected: None });
        }
    }
    Ok(faults)
}

/// Makes indexes and triggers what they should be; says in words what was wrong. A table that is another is
/// damage.
pub(super) fn mend(
    transaction: &Transaction<'_>,
    version: i64,
) -> rusqlite::Result<Option<String>> {
    let faults = faults(transaction, version)?;
    if let Some(table) = faults.iter().find(|fault| fault.object.0 == "table") {
        return Err(corrupt(table.to_string()));
    }
    for Fault { object: (kind, name), expected, .. } in &faults {
        let name = name.replace('"', "\"\"");
        transaction.execute_batch(&format!("DROP {kind} IF EXISTS \"{name}\""))?;
        if let Some(text) = expected {
            transaction.execute_batch(text)?;
        }
    }
    let words: Vec<_> = faults.iter().map(Fault::to_string).collect();
    Ok((!words.is_empty()).then(|| words.join(", ")))
}

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    // Without what SQLite makes by itself.
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let rows = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    rows.collect()
}
