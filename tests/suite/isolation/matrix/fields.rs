//! Every text field of a request, found by walking the contract.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// From the request down to one text.
pub(super) type Path = Vec<FieldDescriptor>;

/// The path of every text in a message, those of its lists and of its messages included.
pub(super) fn texts(message: &MessageDescriptor) -> Vec<Path> {
    let mut found = Vec::new();
    for field in message.fields() {
        match field.kind() {
            Kind::String => found.push(vec![field]),
            Kind::Message(inner) => {
                for mut path in texts(&inner) {
                    path.insert(0, field.clone());
                    found.push(path);
                }
            }
            _ => {}
        }
    }
    found
}

/// The path as it is named in violations: `project.display_name`.
pub(super) fn name(path: &Path) -> String {
    let names: Vec<&str> = path.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// The first path whose last field has a name.
pub(super) fn named(message: &MessageDescriptor, last: &str) -> Option<Path> {
    texts(message)
        .into_iter()
        .find(|path| path.last().is_some_and(|field| field.name() == last))
}

/// Writes a text; in a list, into its first item.
pub(super) fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) {
    let Some((field, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        let text = Value::String(text.to_owned());
        let value = if field.is_list() {
            Value::List(vec![text])
        } else {
            text
        };
        message.set_field(field, value);
        return;
    }
    let inner = match message.get_field_mut(field) {
        Value::List(items) => {
            if items.is_empty()
                && let Kind::Message(kind) = field.kind()
            {
                items.push(Value::Message(DynamicMessage::new(kind)));
            }
            items.first_mut()
        }
        value => Some(value),
    };
    if let Some(Value::Message(inner)) = inner {
        set(inner, rest, text);
    }
}

/// Reads a text by the names of its path.
pub(super) fn get(message: &DynamicMessage, names: &[&str]) -> Option<String> {
    let (first, rest) = names.split_first()?;
    match (&*message.get_field_by_name(first)?, rest.is_empty()) {
        (Value::String(text), true) => Some(text.clone()),
        (Value::Message(inner), false) => get(inner, rest),
        _ => None,
    }
}
