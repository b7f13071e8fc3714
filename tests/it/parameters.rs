//! Parameters of templates, and variables of their jobs, on a real agent.

use bivouac_tests::World;
use bivouac_tests::world::{GUEST, WAKING};

/// An operator's HCL may refer to a parameter that a caller need not give: it is there, and empty.
#[test]
fn an_optional_parameter_without_a_value_is_empty() {
    World::cluster().replicas(0).run(async |world| {
        let folder = world.templates();
        let read = |file: &str| std::fs::read_to_string(folder.join(GUEST).join(file)).unwrap();
        let write =
            |file: &str, text: String| std::fs::write(folder.join("refers").join(file), text).unwrap();
        std::fs::create_dir_all(folder.join("refers")).unwrap();
        write("template.toml", read("template.toml"));
        let refers = "\"text=${NOMAD_META_text}\", \"short=${NOMAD_META_short}\"";
        write("job.nomad.hcl", read("job.nomad.hcl").replace("\"text=${NOMAD_META_text}\"", refers));
        world.start_a_replica().await;
        let session = world.spawn("refers").await;
        let args = session.serves("/args").await.json();
        assert_eq!(args, serde_json::json!(["text=", "short="]));
        let env = session.serves("/env").await.json();
        assert_eq!((&env["SHORT"], &env["NOMAD_META_short"]), (&"".into(), &"".into()), "{env}");
        let session = world.spawn("refers").param("short", "abc").await;
        assert_eq!(session.serves("/args").await.json()[1], "short=abc");
    });
}

/// Nomad says nothing about a value for a variable that the job does not declare.
#[test]
fn a_value_for_a_variable_that_the_job_does_not_declare_disables_the_template() {
    World::cluster().service_flag("template-var", &format!("{GUEST}.gest=/bin/false")).run(async |world| {
        let refused = world.spawn(GUEST).send().await.unwrap();
        refused.is_problem(409, "template_disabled");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("gest") && detail.contains("diary, guest, owner"), "{detail}");
        assert!(world.get("/readyz").await.unwrap().body.contains("gest"));
        world.spawn(WAKING).await.serves("/").await;
    });
}
