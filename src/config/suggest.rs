//! The nearest known word.

/// The word of `known` that was probably meant by `typed`: at most a third of its letters mistyped
/// (Damerau–Levenshtein), else one that it abbreviates, where that is plain.
pub(super) fn nearest<'k>(typed: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Nothing is near to a text much longer than any word, and the distance costs its square.
    if typed.len() > 64 {
        return None;
    }
    let typed = typed.to_lowercase().replace('-', "_");
    let known: Vec<_> = known.collect();
    let by_distance = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&typed, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= (word.len().max(typed.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word);
    by_distance.or_else(|| {
        let part = |word: &&str| word.starts_with(&typed) || word.ends_with(&typed);
        let wholes: Vec<_> = known.into_iter().filter(part).filter(|_| typed.len() >= 3).collect();
        // `env` is `environment` before it is `environment_file`.
        let shortest = wholes.iter().min_by_key(|word| word.len())?;
        wholes.iter().all(|word| word.starts_with(shortest)).then_some(*shortest)
    })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["soft_limit", "hard_limit", "total_limit", "environment", "environment_file"];
        for (typed, meant) in [
            ("sotf_limit", Some("soft_limit")),
            ("soft-limit", Some("soft_limit")),
            ("softlimit", Some("soft_limit")),
            ("Hard_Limit", Some("hard_limit")),
            ("total", Some("total_limit")),
            ("environmnet", Some("environment")),
            ("env", Some("environment")),
            ("limit", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
    }

    #[test]
    fn the_nearest_of_several_wins() {
        assert_eq!(nearest("SIGTREM", ["SIGINT", "SIGTERM"].into_iter()), Some("SIGTERM"));
        assert_eq!(nearest("wirkers", ["workets", "workers"].into_iter()), Some("workers"));
    }
}
