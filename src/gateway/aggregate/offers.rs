//! What the upstreams were seen to offer, as far as finding an owner needs it: shortened names, URIs, templates.
//!
//! Learned from lists that passed. Not here: asking for lists. Invariant: bounded; what is not known can be asked for, so
//! forgetting costs a list and nothing else.

use std::collections::{HashMap, HashSet};

/// Entries of one kind that are remembered of one upstream.
const ENTRIES_MAX: usize = 16_384;

/// One upstream's.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Shortened names, and what they stand for.
    names: HashMap<String, String>,
    uris: HashSet<String>,
    templates: HashSet<String>,
}

impl Offers {
    /// `false`: there is another name behind this one already, which keeps it.
    pub(super) fn learn_name(&mut self, shown: &str, name: &str) -> bool {
        if let Some(known) = self.names.get(shown) {
            return known == name;
        }
        if self.names.len() >= ENTRIES_MAX {
            self.names.clear();
        }
        self.names.insert(shown.to_owned(), name.to_owned());
        true
    }

    pub(super) fn name(&self, shown: &str) -> Option<&str> {
        self.names.get(shown).map(String::as_str)
    }

    pub(super) fn learn_uris(&mut self, uris: impl Iterator<Item = String>) {
        self.uris = uris.take(ENTRIES_MAX).collect();
    }

    pub(super) fn learn_templates(&mut self, templates: impl Iterator<Item = String>) {
        self.templates = templates.take(ENTRIES_MAX).collect();
    }

    pub(super) fn has_uri(&self, uri: &str) -> bool {
        self.uris.contains(uri) || self.templates.contains(uri)
    }

    /// How much of a URI its best template says literally.
    pub(super) fn template_fit(&self, uri: &str) -> Option<usize> {
        let literal = |template: &String| {
            let literal = template.split('{').next().unwrap_or_default();
            uri.starts_with(literal).then_some(literal.len())
        };
        self.templates.iter().filter_map(literal).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_belongs_to_a_list_or_to_the_template_that_says_most_of_it() {
        let mut offers = Offers::default();
        offers.learn_uris(["a://1".to_owned()].into_iter());
        offers.learn_templates(["a://{x}", "a://b/{x}", "{+any}"].map(str::to_owned).into_iter());
        assert!(offers.has_uri("a://1") && !offers.has_uri("a://2") && offers.has_uri("a://{x}"));
        assert_eq!(offers.template_fit("a://b/c"), Some(6));
        assert_eq!(offers.template_fit("a://c"), Some(4));
        assert_eq!(offers.template_fit("z://c"), Some(0));
        offers.learn_templates(std::iter::empty());
        assert_eq!(offers.template_fit("a://c"), None);
    }

    #[test]
    fn a_shortened_name_stands_for_one_name() {
        let mut offers = Offers::default();
        assert!(offers.learn_name("x_1", "first") && offers.learn_name("x_1", "first"));
        assert!(!offers.learn_name("x_1", "second"));
        assert_eq!(offers.name("x_1"), Some("first"));
    }
}
