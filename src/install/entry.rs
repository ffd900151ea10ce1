//! One server's entry: what it runs, and the edits that make it run through `undercurrent wrap` or by itself.
//!
//! The command moves into the arguments as it is written, so taking it back gives the same bytes. Only one thing could
//! not be told afterwards: whether there was a list of arguments at all. An entry without one gets `--name=NAME` in one
//! word; an entry with one gets `--name`, `NAME`.

use std::ops::Range;
use std::path::Path;

use jsonc_parser::ast::{Array, Object, ObjectProp, Value};
use jsonc_parser::common::Ranged as _;

use super::document::{Edit, Server, property, quoted, range};

/// What our program is called, whatever directory it is in.
const PROGRAM: &str = "undercurrent";

/// Why an entry is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left(pub(super) String);

pub(super) struct Entry<'a> {
    object: &'a Object<'a>,
    text: &'a str,
    pub(super) kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    Command(Command<'a>),
    /// It runs through us.
    Wrapped(Command<'a>),
    Url(Literal<'a>),
}

/// A command and its arguments, all of them texts.
pub(super) struct Command<'a> {
    property: &'a ObjectProp<'a>,
    args: Option<(&'a ObjectProp<'a>, &'a Array<'a>)>,
}

/// A text, and how it is written.
pub(super) struct Literal<'a> {
    pub(super) value: String,
    pub(super) literal: &'a str,
    pub(super) range: Range<usize>,
}

impl<'a> Entry<'a> {
    pub(super) fn read(server: &Server<'a>) -> Result<Self, Left> {
        let object = server.value.as_object().ok_or_else(|| Left("it is no object".into()))?;
        let kind = kind(object, server.text)?;
        Ok(Self { object, text: server.text, kind })
    }

    /// The edits after which the entry runs through `program`.
    pub(super) fn wrap(&self, command: &Command<'_>, program: &str, name: &str, data: Option<&str>) -> Vec<Edit> {
        let original = &self.text[range(&command.property.value)];
        let mut words = vec![quoted("wrap")];
        match command.args {
            Some(_) => words.extend([quoted("--name"), quoted(name)]),
            None => words.push(quoted(&format!("--name={name}"))),
        }
        words.extend(data.into_iter().flat_map(|data| [quoted("--data"), quoted(data)]));
        words.extend([quoted("--"), original.to_owned()]);
        let words = words.join(", ");
        let args = match command.args {
            Some((_, args)) => match args.elements.first() {
                Some(first) => Edit::insert(first.range().start, words + ", "),
                None => Edit::insert(args.range.start + 1, words),
            },
            None => {
                let separator = self.before(command.property);
                Edit::insert(command.property.range.end, format!(",{separator}\"args\": [{words}]"))
            }
        };
        vec![Edit::replace(range(&command.property.value), quoted(program)), args]
    }

    /// The edits after which the entry runs what stands after `--`.
    pub(super) fn unwrap(&self, wrapped: &Command<'_>) -> Result<Vec<Edit>, Left> {
        let nothing = || Left("nothing stands after `--` in its arguments".to_owned());
        let (property, args) = wrapped.args.ok_or_else(nothing)?;
        let words: Vec<&str> = args.elements.iter().filter_map(text_of).collect();
        let dashes = words.iter().position(|word| *word == "--").ok_or_else(nothing)?;
        let (first, command) = args.elements.first().zip(args.elements.get(dashes + 1)).ok_or_else(nothing)?;
        let command_edit = Edit::replace(range(&wrapped.property.value), &self.text[range(command)]);
        let next = args.elements.get(dashes + 2);
        let had_no_list = words.get(1).is_some_and(|word| word.starts_with("--name="));
        let args_edit = match next {
            Some(next) => Edit::replace(first.range().start..next.range().start, ""),
            None if had_no_list => Edit::replace(self.with_comma(property), ""),
            None => Edit::replace(first.range().start..command.range().end, ""),
        };
        Ok(vec![command_edit, args_edit])
    }

    /// The white space before a property, which is how the next one should be set off too.
    fn before(&self, property: &ObjectProp<'_>) -> &str {
        let before = &self.text[..property.range.start];
        let space = &before[before.trim_end().len()..];
        if space.is_empty() { " " } else { space }
    }

    /// The range of a property with the comma that ties it to its neighbour.
    fn with_comma(&self, property: &ObjectProp<'_>) -> Range<usize> {
        let all = &self.object.properties;
        let at = all.iter().position(|other| std::ptr::eq(other, property)).unwrap_or_default();
        match (at.checked_sub(1).and_then(|before| all.get(before)), all.get(at + 1)) {
            (Some(before), _) => before.range.end..property.range.end,
            (None, Some(after)) => property.range.start..after.range.start,
            (None, None) => range(property),
        }
    }
}

fn kind<'a>(object: &'a Object<'a>, text: &'a str) -> Result<Kind<'a>, Left> {
    let transport = property(object, "type").and_then(|kind| text_of(&kind.value));
    if let Some(url) = property(object, "url") {
        let value = text_of(&url.value).ok_or_else(|| Left("its `url` is not a text".into()))?;
        if transport == Some("sse") {
            return Err(Left("it uses the HTTP+SSE transport of 2024, which `install` does not change".into()));
        }
        let range = range(&url.value);
        return Ok(Kind::Url(Literal { value: value.to_owned(), literal: &text[range.clone()], range }));
    }
    let Some(command) = property(object, "command") else {
        return Err(Left("it has neither a command nor a URL".into()));
    };
    let program = text_of(&command.value).ok_or_else(|| Left("its `command` is not a text".into()))?;
    let not_texts = || Left("its `args` are not a list of texts".to_owned());
    let args = match property(object, "args") {
        None => None,
        Some(property) => Some((property, property.value.as_array().ok_or_else(not_texts)?)),
    };
    let words: Vec<&str> = args.iter().flat_map(|(_, args)| &args.elements).filter_map(text_of).collect();
    if args.is_some_and(|(_, args)| args.elements.len() != words.len()) {
        return Err(not_texts());
    }
    if is_ours(program) && words.first() == Some(&"wrap") && words.contains(&"--") {
        return Ok(Kind::Wrapped(Command { property: command, args }));
    }
    if words.is_empty() && program.contains(char::is_whitespace) && !Path::new(program).exists() {
        return Err(Left("its command is a whole line for a shell: give program and `args` apart".into()));
    }
    Ok(Kind::Command(Command { property: command, args }))
}

fn is_ours(program: &str) -> bool {
    let file = program.rsplit(['/', '\\']).next().unwrap_or_default();
    file.strip_suffix(".exe").unwrap_or(file) == PROGRAM
}

fn text_of<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    value.as_string_lit().map(|text| &*text.value)
}
