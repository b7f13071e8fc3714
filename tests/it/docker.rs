//! Sessions in containers: the same scenarios, where this machine can run a Docker engine for them.

use bivouac_tests::World;
use bivouac_tests::world::GUEST;

use crate::{life, logs, starting};

/// Runs scenarios of other modules with Nomad's docker driver.
macro_rules! in_containers {
    ($($module:ident :: $scenario:ident),+ $(,)?) => {$(
        #[test]
        fn $scenario() {
            let name = concat!("docker::", stringify!($scenario));
            World::on_docker().run_or_skip(name, $module::$scenario);
        }
    )+};
}

in_containers!(
    life::spawn_use_idle_end,
    life::stop_while_in_use,
    life::a_lifetime_ends_what_is_in_use,
    starting::many_requests_wait_for_a_slow_start,
    starting::a_backend_that_exits_at_once,
    logs::a_follower_sees_lines_as_they_come,
    logs::an_ended_session_still_tells_what_it_printed,
);

/// What a caller says reaches a container as it is, through two more layers than a bare process.
#[test]
fn arguments_reach_a_container_literally() {
    World::on_docker().run_or_skip("docker::arguments_reach_a_container_literally", async |world: World| {
        let hostile = ["${node.unique.name}", "%{ if true }x%{ endif }", "$(id) `id` \"'", "--entrypoint=sh"];
        let session = world.spawn(GUEST).field("args", hostile.to_vec()).param("text", "a b").await;
        let told = session.serves("/args").await.json();
        let told: Vec<&str> = told.as_array().unwrap().iter().filter_map(|arg| arg.as_str()).collect();
        assert_eq!(told[0], "text=a b");
        assert_eq!(told[1..], hostile);
        let job = world.job(&format!("session-{}-1", session.id)).await.unwrap();
        assert_eq!(job["TaskGroups"][0]["Tasks"][0]["Driver"], "docker");
    });
}
