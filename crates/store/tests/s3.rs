//! The bucket as a store, on the testbed's real Ceph RGW.

use lifeboat_store::suite;
use lifeboat_testkit::{bucket, testbed};

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract() {
    if !testbed::enabled() {
        return;
    }
    suite::run(&bucket::store("contract").await).await;
}
