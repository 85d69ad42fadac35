//! What a build script says.

use std::fmt;
use std::path::{Path, PathBuf};

use protox::prost_reflect::DescriptorPool;

use crate::error::BuildError;
use crate::generate::Generator;
use crate::plan::{Plan, Wishes};

/// A builder with nothing said.
pub fn configure() -> Builder {
    Builder {
        rpc_path: "::peerage_rpc".to_owned(),
        wishes: Wishes::default(),
        out_dir: None,
        change: Vec::new(),
    }
}

type Change = Box<dyn FnOnce(&mut prost_build::Config)>;

/// What is to be made, and how.
///
/// Methods are named `package.Service/Method`; where a method is meant, `package.Service` means all of its methods.
#[must_use = "nothing is made before `compile`"]
pub struct Builder {
    rpc_path: String,
    wishes: Wishes,
    out_dir: Option<PathBuf>,
    change: Vec<Change>,
}

impl Builder {
    /// A method without a reply: the caller does not wait, and the broker runs it in the order in which it was sent. It must
    /// return `google.protobuf.Empty`; one that returns it and is not named here is a request, whose caller hears when it is
    /// done.
    pub fn one_way(mut self, method: impl Into<String>) -> Self {
        self.wishes.one_way.push(method.into());
        self
    }

    /// Only nodes, and the broker, may call it.
    pub fn nodes_only(mut self, method: impl Into<String>) -> Self {
        self.wishes.nodes_only.push(method.into());
        self
    }

    /// Only callers of which this function is true may call it: a path in the program, to a `fn(&Caller) -> bool`.
    pub fn accounts(mut self, method: impl Into<String>, may_call: impl Into<String>) -> Self {
        self.wishes.accounts.push((method.into(), may_call.into()));
        self
    }

    /// Fields that must be there wherever a method takes this message; a call without one is refused before it is run. Fields
    /// that are `required` in proto2 are anyhow.
    pub fn required<F: Into<String>>(
        mut self,
        message: impl Into<String>,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        self.wishes.required.push((message.into(), fields.into_iter().map(Into::into).collect()));
        self
    }

    /// Where the program finds `peerage-rpc`: `::peerage_rpc`, if this is not called; `::peerage::rpc` for who depends on
    /// the facade.
    pub fn rpc_path(mut self, path: impl Into<String>) -> Self {
        self.rpc_path = path.into();
        self
    }

    /// Where the code goes, a file for each package; cargo's `OUT_DIR`, if this is not called.
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Changes how messages are made: `.prost(|config| { config.bytes(["."]); })`.
    pub fn prost(mut self, change: impl FnOnce(&mut prost_build::Config) + 'static) -> Self {
        self.change.push(Box::new(change));
        self
    }

    /// Reads the files, and those that they import from the folders, and writes the code. Has cargo run the build script again
    /// when one of them changes.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn compile(self, files: &[impl AsRef<Path>], folders: &[impl AsRef<Path>]) -> Result<(), BuildError> {
        // Its debug form says where.
        let parse = |error: protox::Error| BuildError::Parse(format!("{error:?}"));
        let mut compiler = protox::Compiler::new(folders).map_err(parse)?;
        compiler.include_imports(true).include_source_info(true).open_files(files).map_err(parse)?;
        for path in compiler.files().filter_map(protox::file::FileMetadata::path) {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        let descriptors = compiler.file_descriptor_set();
        let Self { rpc_path, wishes, out_dir, change } = self;
        let plan = Plan::of(&compiler.descriptor_pool(), &wishes)?;
        let mut config = prost_build::Config::new();
        for change in change {
            change(&mut config);
        }
        if let Some(folder) = out_dir {
            config.out_dir(folder);
        }
        config.service_generator(Box::new(Generator::new(rpc_path, plan)));
        config.compile_fds(descriptors).map_err(|error| BuildError::Write(error.to_string()))
    }

    /// The generator alone, for a [`prost_build::Config`] of one's own, made for these files and no others.
    ///
    /// # Errors
    /// [`BuildError`]: what was said does not fit the files.
    pub fn generator(self, files: &DescriptorPool) -> Result<Generator, BuildError> {
        Ok(Generator::new(self.rpc_path, Plan::of(files, &self.wishes)?))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rpc_path", &self.rpc_path)
            .field("wishes", &self.wishes)
            .field("out_dir", &self.out_dir)
            .finish_non_exhaustive()
    }
}
