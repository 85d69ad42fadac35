//! Whoever strangers meet, and a friend who must not notice.

use peerage_machine::LinkId;
use peerage_net::Config;

use super::stranger::{Stranger, hello};
use super::{Node, Over, connections, ended, identity, linked, toy};

/// An endpoint with an honest link, which must outlive whatever strangers do.
pub struct Target {
    pub node: Node,
    pub friend: Node,
    pub link: LinkId,
    pub ended: u64,
}

impl Target {
    pub async fn new(config: Config) -> Self {
        let mut node = Over::Tcp.node(1, config).await;
        let mut friend = Over::Tcp.node(2, Config::default()).await;
        let (_, link) = linked(&mut friend, &mut node).await;
        Self { node, friend, link, ended: 0 }
    }

    pub async fn stranger(&self) -> Stranger {
        Stranger::connect(&self.node.address()).await
    }

    /// A stranger of its own key, with a link that is up.
    pub async fn up(&self) -> Stranger {
        let identity = identity(66);
        Stranger::up(&self.node.address(), &identity, &hello(&identity)).await
    }

    /// One more connection has ended so, nothing of it is left, and the friend is well.
    pub async fn unharmed(&mut self, reason: &str, count: u64) {
        ended(&self.node.endpoint, reason, count).await;
        connections(&self.node.endpoint, 1).await;
        let ended: u64 = self.node.snapshot().totals.ended.values().sum();
        self.ended += 1;
        assert_eq!(
            ended,
            self.ended,
            "each connection ends for one reason: {:?}",
            self.node.snapshot().totals.ended
        );
        toy::send(&self.node.toy, self.link, "well?");
        assert_eq!(self.friend.got().await.1, "well?");
    }

    /// The friend is well, whoever else is there.
    pub async fn still(&mut self) {
        toy::send(&self.node.toy, self.link, "still?");
        assert_eq!(self.friend.got().await.1, "still?");
    }
}
