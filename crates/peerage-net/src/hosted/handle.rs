//! What the application holds of a hosted machine.

use std::fmt;
use std::sync::{Arc, Weak};

use peerage_machine::{Input, Machine, Now, OpId, OutboxOf, StoreError};

use super::{Cell, Instance as _};
use crate::endpoint::Endpoint;
use crate::error::Closed;

/// A machine on an endpoint. Clones are the same machine; it runs until [`Hosted::close`] or the endpoint's close.
pub struct Hosted<M: Machine> {
    cell: Arc<Cell<M>>,
    endpoint: Endpoint,
}

impl<M: Machine> Clone for Hosted<M> {
    fn clone(&self) -> Self {
        Self { cell: Arc::clone(&self.cell), endpoint: self.endpoint.clone() }
    }
}

impl<M: Machine> fmt::Debug for Hosted<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("instance", &self.cell.spec.name).finish_non_exhaustive()
    }
}

impl<M: Machine + Send + 'static> Hosted<M> {
    pub(crate) fn new(cell: Arc<Cell<M>>, endpoint: Endpoint) -> Self {
        Self { cell, endpoint }
    }

    /// Runs a command on the machine, now and on this thread, and carries out what it wants before returning.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn call<R>(&self, command: impl FnOnce(&mut M, Now, &mut OutboxOf<M>) -> R) -> Result<R, Closed> {
        self.cell.turn(|inner, now| command(&mut inner.machine, now, &mut inner.out))
    }

    /// Tells the machine what became of storage operations that its sink answered with [`crate::StoreAnswer::Later`]: all in
    /// one turn, in this order, and carries out what it wants before returning.
    ///
    /// # Errors
    /// [`Closed`]: the machine has not heard of it.
    pub fn stored(
        &self,
        results: impl IntoIterator<Item = (OpId, Result<(), StoreError>)>,
    ) -> Result<(), Closed> {
        self.cell.stored(results)
    }

    /// A handle that keeps nothing alive.
    pub fn downgrade(&self) -> WeakHosted<M> {
        WeakHosted::new(Arc::downgrade(&self.cell))
    }

    /// The endpoint that hosts it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Ends the instance: peers are told, links that nothing else holds close, the sink hears `closed`.
    pub fn close(&self) {
        self.cell.shut();
        self.endpoint.shared().forget_instance(self.cell.key);
    }
}

/// A machine on an endpoint, for those who must not keep it: what its own sink passes on to, a store's thread say.
pub struct WeakHosted<M: Machine> {
    cell: Weak<Cell<M>>,
}

impl<M: Machine> Clone for WeakHosted<M> {
    fn clone(&self) -> Self {
        Self { cell: Weak::clone(&self.cell) }
    }
}

impl<M: Machine> fmt::Debug for WeakHosted<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.cell.upgrade().map(|cell| cell.spec.name.clone());
        f.debug_struct("WeakHosted").field("instance", &name).finish_non_exhaustive()
    }
}

impl<M: Machine + Send + 'static> WeakHosted<M> {
    pub(crate) fn new(cell: Weak<Cell<M>>) -> Self {
        Self { cell }
    }

    /// [`Hosted::call`].
    ///
    /// # Errors
    /// [`Closed`], also when the machine is gone.
    pub fn call<R>(&self, command: impl FnOnce(&mut M, Now, &mut OutboxOf<M>) -> R) -> Result<R, Closed> {
        let cell = self.cell.upgrade().ok_or(Closed)?;
        cell.turn(|inner, now| command(&mut inner.machine, now, &mut inner.out))
    }

    /// [`Hosted::stored`].
    ///
    /// # Errors
    /// [`Closed`], also when the machine is gone: it has not heard of it.
    pub fn stored(
        &self,
        results: impl IntoIterator<Item = (OpId, Result<(), StoreError>)>,
    ) -> Result<(), Closed> {
        self.cell.upgrade().ok_or(Closed)?.stored(results)
    }
}

impl<M: Machine + Send + 'static> Cell<M> {
    fn stored(
        &self,
        results: impl IntoIterator<Item = (OpId, Result<(), StoreError>)>,
    ) -> Result<(), Closed> {
        self.turn(|inner, now| {
            for (op, result) in results {
                inner.input(now, Input::Stored { op, result });
            }
        })
    }
}
