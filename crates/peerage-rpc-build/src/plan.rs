//! What the options mean for each method.

use std::collections::{BTreeMap, BTreeSet};

use protox::prost_reflect::{
    Cardinality, DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor,
};

use crate::error::BuildError;

/// The longest name of a command, in bytes: that of `peerage-rpc`.
pub const MAX_COMMAND: usize = 128;

/// What the builder was told.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) one_way: Vec<String>,
    pub(crate) nodes_only: Vec<String>,
    pub(crate) accounts: Vec<(String, String)>,
    pub(crate) required: Vec<(String, Vec<String>)>,
}

/// What a command asks of its callers, beside its form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asks {
    pub(crate) one_way: bool,
    pub(crate) nodes_only: bool,
    pub(crate) accounts: Option<String>,
    /// Numbers and names of fields.
    pub(crate) required: BTreeMap<u32, String>,
}

/// What each command asks, by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    commands: BTreeMap<String, Asks>,
}

/// What a method is called on the wire.
pub(crate) fn command(package: &str, service: &str, method: &str) -> String {
    let dot = if package.is_empty() { "" } else { "." };
    format!("{package}{dot}{service}/{method}")
}

impl Plan {
    pub(crate) fn of(files: &DescriptorPool, wishes: &Wishes) -> Result<Self, BuildError> {
        let methods: Vec<_> = files
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| (name_of(&method), method))
            .collect();
        let is_meant = |wish: &str, command: &str| {
            command == wish || command.split_once('/').is_some_and(|(service, _)| service == wish)
        };
        let wished = wishes.one_way.iter().chain(&wishes.nodes_only);
        for wish in wished.chain(wishes.accounts.iter().map(|(method, _)| method)) {
            if !methods.iter().any(|(command, _)| is_meant(wish, command)) {
                return Err(BuildError::UnknownMethod { name: wish.clone() });
            }
        }
        check_names(files)?;
        let required = required(files, wishes)?;
        let mut commands = BTreeMap::new();
        for (command, method) in methods {
            if command.len() > MAX_COMMAND {
                return Err(BuildError::NameTooLong { name: command });
            }
            let has = |wishes: &[String]| wishes.iter().any(|wish| is_meant(wish, &command));
            let one_way = has(&wishes.one_way);
            let streams = method.is_client_streaming() || method.is_server_streaming();
            if one_way && (streams || method.output().full_name() != "google.protobuf.Empty") {
                return Err(BuildError::NotOneWay { method: command });
            }
            let may_call = wishes.accounts.iter().rfind(|(wish, _)| is_meant(wish, &command));
            let mut fields: BTreeMap<_, _> =
                method.input().fields().filter(is_required).map(number_and_name).collect();
            fields.extend(required.get(method.input().full_name()).cloned().into_iter().flatten());
            let asks = Asks {
                one_way,
                nodes_only: has(&wishes.nodes_only),
                accounts: may_call.map(|(_, path)| path.clone()),
                required: fields,
            };
            commands.insert(command, asks);
        }
        Ok(Self { commands })
    }

    pub(crate) fn asks(&self, command: &str) -> Asks {
        self.commands.get(command).cloned().unwrap_or_default()
    }
}

fn name_of(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    command(service.package_name(), service.name(), method.name())
}

fn is_required(field: &FieldDescriptor) -> bool {
    field.cardinality() == Cardinality::Required
}

fn number_and_name(field: FieldDescriptor) -> (u32, String) {
    (field.number(), field.name().to_owned())
}

/// The required fields of each message that was named.
fn required(
    files: &DescriptorPool,
    wishes: &Wishes,
) -> Result<BTreeMap<String, BTreeMap<u32, String>>, BuildError> {
    let mut required: BTreeMap<String, BTreeMap<u32, String>> = BTreeMap::new();
    for (name, fields) in &wishes.required {
        let message: MessageDescriptor = files
            .get_message_by_name(name)
            .ok_or_else(|| BuildError::UnknownMessage { name: name.clone() })?;
        let into = required.entry(name.clone()).or_default();
        for wanted in fields {
            let (message_name, field_name) = (name.clone(), wanted.clone());
            let Some(field) = message.get_field_by_name(wanted) else {
                return Err(BuildError::UnknownField { message: message_name, field: field_name });
            };
            // A list or a map that has an entry is there.
            if !field.supports_presence() && !field.is_list() && !field.is_map() {
                return Err(BuildError::NoPresence { message: message_name, field: field_name });
            }
            into.extend([number_and_name(field)]);
        }
    }
    Ok(required)
}

/// Nothing that is generated for a service has a message's name.
fn check_names(files: &DescriptorPool) -> Result<(), BuildError> {
    let messages: BTreeSet<_> = files
        .all_messages()
        .filter(|message| message.parent_message().is_none())
        .map(|message| message.full_name().to_owned())
        .collect();
    for service in files.services() {
        for ending in ["Client", "Server"] {
            let name = format!("{}{ending}", service.full_name());
            if messages.contains(&name) {
                return Err(BuildError::NameTaken { name, service: service.full_name().to_owned() });
            }
        }
    }
    Ok(())
}
