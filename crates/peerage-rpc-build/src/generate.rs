//! From a service to Rust.

use std::fmt::Write as _;

use prost_build::{Comments, Method, Service, ServiceGenerator};
use protox::prost_reflect::prost_types::method_options::IdempotencyLevel;

use crate::plan::{Asks, Plan, command};

/// Makes a server trait, a server and a client of each service; made by [`crate::Builder::generator`].
#[derive(Clone, Debug)]
pub struct Generator {
    rpc: String,
    plan: Plan,
}

impl Generator {
    pub(crate) fn new(rpc: String, plan: Plan) -> Self {
        Self { rpc, plan }
    }
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, into: &mut String) {
        let rpc = &self.rpc;
        let commands: Vec<_> = service
            .methods
            .iter()
            .map(|method| {
                let name = command(&service.package, &service.proto_name, &method.proto_name);
                Command::new(rpc, method, self.plan.asks(&name), name)
            })
            .collect();
        let full = command(&service.package, &service.proto_name, "");
        let names = Names { rpc, service: &service.name, full: full.trim_end_matches('/') };
        // Writing to a text does not fail.
        let _ = names
            .server_trait(&service.comments, &commands, into)
            .and_then(|()| names.server(&commands, into))
            .and_then(|()| names.client(&service.comments, &commands, into));
    }
}

/// What flows in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Request,
    OneWay,
    ServerStream,
    ClientStream,
    Channel,
}

/// One command, in pieces of Rust.
struct Command<'a> {
    method: &'a Method,
    form: Form,
    /// The client's constant.
    constant: String,
    /// What its methods are called.
    rust: String,
    name: String,
    declaration: String,
}

impl<'a> Command<'a> {
    fn new(rpc: &str, method: &'a Method, asks: Asks, name: String) -> Self {
        let form = match (method.client_streaming, method.server_streaming) {
            (false, false) if asks.one_way => Form::OneWay,
            (false, false) => Form::Request,
            (false, true) => Form::ServerStream,
            (true, false) => Form::ClientStream,
            (true, true) => Form::Channel,
        };
        let make = match form {
            Form::Request => "request",
            Form::OneWay => "one_way",
            Form::ServerStream => "server_stream",
            Form::ClientStream => "client_stream",
            Form::Channel => "channel",
        };
        let mut declaration = format!("{rpc}::Declaration::{make}()");
        if !asks.required.is_empty() {
            let fields: Vec<_> =
                asks.required.iter().map(|(number, field)| format!("({number}, {field:?})")).collect();
            declaration += &format!(".required(&[{}])", fields.join(", "));
        }
        if asks.nodes_only {
            declaration += ".nodes_only()";
        }
        if let Some(may_call) = asks.accounts {
            declaration += &format!(".accounts({may_call})");
        }
        if method.options.idempotency_level() != IdempotencyLevel::IdempotencyUnknown {
            declaration += ".idempotent()";
        }
        // The client's own `new` is there already.
        let rust = if method.name == "new" { "new_".to_owned() } else { method.name.clone() };
        let constant = rust.trim_start_matches("r#").to_uppercase();
        Self { method, form, constant, rust, name, declaration }
    }

    /// The handler's parameters after the context, with their types, and what it gives.
    fn handler(&self, rpc: &str) -> (String, &str) {
        let (q, r) = (&self.method.input_type, self.method.output_type.as_str());
        match self.form {
            Form::Request => (format!("request: {q}"), r),
            Form::OneWay => (format!("request: {q}"), "()"),
            Form::ServerStream => (format!("request: {q}, to: {rpc}::Sender<{r}>"), "()"),
            Form::ClientStream => (format!("from: {rpc}::Receiver<{q}>"), r),
            Form::Channel => (format!("from: {rpc}::Receiver<{q}>, to: {rpc}::Sender<{r}>"), "()"),
        }
    }
}

const ALLOW: &str =
    "#[allow(dead_code, clippy::allow_attributes, reason = \"a program may need one side only\")]";

/// What is the same all over a service.
struct Names<'a> {
    rpc: &'a str,
    service: &'a str,
    full: &'a str,
}

impl Names<'_> {
    fn server_trait(
        &self,
        comments: &Comments,
        commands: &[Command<'_>],
        into: &mut String,
    ) -> std::fmt::Result {
        let Self { rpc, service, full } = self;
        document(comments, 0, into);
        let about =
            format!("Runs the commands of `{full}`; [`{service}Server`] adds it to a broker or a node.");
        paragraph(comments, 0, &about, into);
        writeln!(into, "{ALLOW}")?;
        writeln!(into, "pub trait {service}<M: {rpc}::Place = {rpc}::AtParty>:")?;
        writeln!(into, "    ::core::marker::Send + ::core::marker::Sync + 'static\n{{")?;
        for command in commands {
            let comments = &command.method.comments;
            document(comments, 1, into);
            if is_empty(comments) {
                paragraph(comments, 1, &format!("Runs `{}`.", command.name), into);
            }
            let (parameters, gives) = command.handler(rpc);
            writeln!(into, "    fn {}(", command.rust)?;
            writeln!(into, "        &self,\n        ctx: {rpc}::Context<M>,")?;
            for parameter in parameters.split(", ") {
                writeln!(into, "        {parameter},")?;
            }
            let output = format!("::core::result::Result<{gives}, {rpc}::Status>");
            writeln!(
                into,
                "    ) -> impl ::core::future::Future<Output = {output}> + ::core::marker::Send;"
            )?;
        }
        writeln!(into, "}}")
    }

    fn server(&self, commands: &[Command<'_>], into: &mut String) -> std::fmt::Result {
        let Self { rpc, service, full } = self;
        writeln!(into, "/// The commands of `{full}`, run by a [`{service}`]: for a builder's `service`.")?;
        writeln!(into, "{ALLOW}\n#[derive(Debug)]")?;
        writeln!(into, "pub struct {service}Server<T>(::std::sync::Arc<T>);")?;
        writeln!(into, "{ALLOW}\nimpl<T> {service}Server<T> {{")?;
        writeln!(into, "    /// Has them run by this.")?;
        writeln!(into, "    pub fn new(service: T) -> Self {{")?;
        writeln!(into, "        Self(::std::sync::Arc::new(service))\n    }}")?;
        writeln!(into, "    /// Has them run by what others hold, too.")?;
        writeln!(into, "    pub const fn shared(service: ::std::sync::Arc<T>) -> Self {{")?;
        writeln!(into, "        Self(service)\n    }}\n}}")?;
        writeln!(into, "impl<M: {rpc}::Place, T: {service}<M>> {rpc}::Service<M> for {service}Server<T> {{")?;
        writeln!(into, "    fn register(self, into: &mut {rpc}::Commands<M>) {{")?;
        for Command { form, constant, rust, .. } in commands {
            let (add, parameters) = match form {
                Form::Request | Form::OneWay => ("request", "request"),
                Form::ServerStream => ("server_stream", "request, to"),
                Form::ClientStream => ("client_stream", "from"),
                Form::Channel => ("channel", "from, to"),
            };
            writeln!(into, "        let service = ::std::sync::Arc::clone(&self.0);")?;
            writeln!(into, "        into.{add}({service}Client::{constant}, move |ctx, {parameters}| {{")?;
            writeln!(into, "            let service = ::std::sync::Arc::clone(&service);")?;
            let call = format!("<T as {service}<M>>::{rust}(&*service, ctx, {parameters})");
            writeln!(into, "            async move {{ {call}.await }}")?;
            writeln!(into, "        }});")?;
        }
        writeln!(into, "    }}\n}}")
    }

    fn client(&self, comments: &Comments, commands: &[Command<'_>], into: &mut String) -> std::fmt::Result {
        let Self { rpc, service, full } = self;
        document(comments, 0, into);
        let about = format!("Calls the commands of `{full}`, wherever they are run. Cheap to clone.");
        paragraph(comments, 0, &about, into);
        writeln!(into, "{ALLOW}\n#[derive(Clone, Debug)]")?;
        writeln!(into, "pub struct {service}Client({rpc}::Target);")?;
        writeln!(into, "{ALLOW}\nimpl {service}Client {{")?;
        for Command { constant, name, declaration, method, .. } in commands {
            let (q, r) = (&method.input_type, &method.output_type);
            writeln!(into, "    /// `{name}`.")?;
            writeln!(into, "    pub const {constant}: {rpc}::Method<{q}, {r}> =")?;
            writeln!(into, "        {rpc}::Method::new({name:?}, {declaration});")?;
        }
        writeln!(
            into,
            "    /// Calls them there: at the broker (`&client`), at a node (`&client.node(key)`), at any node"
        )?;
        writeln!(into, "    /// of a group (`&client.group(name)`), or from a broker at a session.")?;
        writeln!(into, "    pub fn new(target: &{rpc}::Target) -> Self {{")?;
        writeln!(into, "        Self(::core::clone::Clone::clone(target))\n    }}")?;
        for command in commands {
            let comments = &command.method.comments;
            document(comments, 1, into);
            if is_empty(comments) {
                paragraph(comments, 1, &format!("Calls `{}`.", command.name), into);
            }
            command.client(rpc, into)?;
        }
        writeln!(into, "}}")
    }
}

impl Command<'_> {
    /// The client's method.
    fn client(&self, rpc: &str, into: &mut String) -> std::fmt::Result {
        let (q, r) = (&self.method.input_type, &self.method.output_type);
        let Self { rust, constant, .. } = self;
        let (call, takes, gives) = match self.form {
            Form::Request => {
                writeln!(into, "    pub fn {rust}(&self, request: {q}) -> {rpc}::Call<{r}> {{")?;
                return writeln!(into, "        self.0.request(Self::{constant}, request)\n    }}");
            }
            Form::OneWay => ("post", true, format!("{rpc}::Sent")),
            Form::ServerStream => ("open_server_stream", true, format!("{rpc}::Receiver<{r}>")),
            Form::ClientStream => ("open_client_stream", false, format!("{rpc}::ClientStream<{q}, {r}>")),
            Form::Channel => ("open_channel", false, format!("({rpc}::Sender<{q}>, {rpc}::Receiver<{r}>)")),
        };
        writeln!(into, "    ///\n    /// # Errors")?;
        writeln!(into, "    /// There is no session, or what is sent is too long.")?;
        let (parameter, argument) =
            if takes { (format!(", request: {q}"), ", request") } else { (String::new(), "") };
        writeln!(into, "    pub async fn {rust}(&self{parameter})")?;
        writeln!(into, "    -> ::core::result::Result<{gives}, {rpc}::Status> {{")?;
        writeln!(into, "        self.0.{call}(Self::{constant}{argument}).await\n    }}")
    }
}

fn is_empty(comments: &Comments) -> bool {
    comments.leading.is_empty() && comments.trailing.is_empty()
}

/// What the file says of an item. Comments that stand apart are about something else.
fn document(comments: &Comments, indent: u8, into: &mut String) {
    Comments { leading_detached: Vec::new(), ..comments.clone() }.append_with_indent(indent, into);
}

/// A paragraph of ours, after what the file says.
fn paragraph(comments: &Comments, indent: u8, text: &str, into: &mut String) {
    let margin = "    ".repeat(usize::from(indent));
    if !is_empty(comments) {
        *into += &format!("{margin}///\n");
    }
    *into += &format!("{margin}/// {text}\n");
}
