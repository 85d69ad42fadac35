//! Messages at the end of their way.

use bytes::BytesMut;
use peerage_machine::{Class, Input, LinkId, Machine, Malformed, Message as _};

use crate::links::{LinkKey, Phase, Side};
use crate::stats::Dropped;
use crate::trace::Kind;
use crate::{NodeId, Sim};

impl<M: Machine> Sim<M> {
    /// A message arrives, or would have.
    pub(crate) fn deliver(&mut self, key: LinkKey, from: Side, class: Class, size: u64, message: M::Message) {
        let now = self.now;
        let Some(link) = self.links.get_mut(key).filter(|link| link.carries(from, now)) else {
            self.trace.line(now, Kind::Lost, 0, 0, size);
            *self.stats.dropped.entry(Dropped::UnderWay).or_default() += 1;
            return;
        };
        link.dequeue(from, class, size);
        let (to, sender) = (link.end(from.other()), link.end(from));
        let (receiver, receiver_link) = (to.node, to.id);
        let (sender, sender_link) = (sender.node, sender.id);
        self.show_drained(sender, receiver, class, size);
        let message =
            if self.config.codec { self.through_bytes(sender, &message, size) } else { Ok(message) };
        match message {
            Ok(message) => self.hand_over(receiver, receiver_link, class, size, message),
            Err(why) => {
                self.trace.line(now, Kind::Message, receiver.0, receiver_link.0, size);
                self.malformed(sender, receiver, receiver_link, &why);
            }
        }
        let credited = class != Class::Control
            && self.links.get(key).is_some_and(|link| link.end(from).phase == Phase::Up);
        if credited {
            self.input(sender, Input::Credit { link: sender_link, class, bytes: size });
        }
    }

    /// A node's machine hears a message.
    pub(crate) fn hand_over(
        &mut self,
        node: NodeId,
        link: LinkId,
        class: Class,
        size: u64,
        message: M::Message,
    ) {
        self.trace.line(self.now, Kind::Message, node.0, link.0, size);
        self.stats.delivered.of_mut(class).add(size);
        if let Some(kind_of) = self.kind_of {
            self.stats.delivered_of_kind.entry(kind_of(&message)).or_default().add(size);
        }
        self.call(node, |machine, now, out| machine.on_input(now, Input::Message { link, message }, out));
    }

    /// What the receiver makes of a message's bytes.
    fn through_bytes(
        &self,
        sender: NodeId,
        message: &M::Message,
        size: u64,
    ) -> Result<M::Message, Malformed> {
        let mut bytes = BytesMut::with_capacity(message.encoded_len());
        message.encode(&mut bytes);
        assert!(
            bytes.len() as u64 == size,
            "a message of {sender} said that it has {size} bytes and has {}: {message:?}; seed {}",
            bytes.len(),
            self.config.seed
        );
        M::Message::decode(bytes.freeze())
    }
}
