"""The file becomes settings, or every mistake is said at once with its line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.load import ConfigError, find, load, parse
from config.settings import Settings, config_sha256, secrets_of
from config.sources import PatternSource, PluginSource, RtspSource, installed

HERE = Path("/etc/linewatch")
EXAMPLE = Path(__file__).parents[2] / "deploy" / "cameras.example.yaml"
HEAD = "version: 1\n"
CAMERA = HEAD + "cameras:\n  top:\n    source: {type: pattern}\n"


def read(text: str, env: dict[str, str] | None = None, folder: Path = HERE) -> Settings:
    return parse(text, name="cameras.yaml", folder=folder, env=env or {})


def mistakes(text: str, env: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(text, env)
    return caught.value.lines


def test_the_example_can_be_read_and_is_free_of_warnings() -> None:
    settings = load(EXAMPLE, {"TOP_PASSWORD": "p@ss:/%#?"})
    assert list(settings.cameras) == ["top", "side", "lab"]
    assert settings.warnings == ()
    assert settings.file == EXAMPLE


def test_defaults_reach_each_camera_and_its_own_words_win() -> None:
    settings = read(
        HEAD
        + "defaults: {fps: 4, detect: {on_frames: 3, off_frames: 5}, model: {input_px: 384}}\n"
        + "cameras:\n"
        + "  a: {source: {type: pattern}, detect: {off_frames: 9}}\n"
        + "  b: {source: {type: pattern}, fps: 10, model: a@7}\n"
    )
    a, b = settings.cameras["a"], settings.cameras["b"]
    assert (a.fps, a.detect.on_frames, a.detect.off_frames) == (4, 3, 9)
    assert (b.fps, b.detect.on_frames, b.detect.off_frames) == (10, 3, 5)
    assert (a.model.ref, a.model.input_px) == ("a@latest", 384)
    assert (b.model.ref, b.model.input_px) == ("a@7", 384)


def test_without_anything_said_the_documented_defaults_hold() -> None:
    settings = read(HEAD)
    detect, engine, events = settings.defaults.detect, settings.engine, settings.events
    assert (detect.false_alarms_per_hour, detect.min_area_px, detect.on_frames, detect.off_frames) == (
        1,
        40,
        2,
        8,
    )
    assert (engine.device, engine.max_batch, engine.max_wait_ms, engine.deadline_ms) == ("auto", 16, 10, 200)
    assert (events.url, events.maxlen, events.outbox.max_mb) == ("embedded", 100_000, 512)
    assert (settings.web.host, settings.web.port, settings.web.webrtc.port_range) == (
        "127.0.0.1",
        8080,
        (50000, 50100),
    )
    assert settings.parts.verdict_within_ms == 1000


def test_paths_count_from_the_files_folder_defaults_too() -> None:
    settings = read(HEAD + "models: {dir: ../m}\nevidence: {dir: /srv/e}\n")
    assert settings.models.dir == HERE / "../m"
    assert settings.evidence.dir == Path("/srv/e")
    assert settings.events.outbox.path == HERE / "var/outbox.db"


def test_the_stream_key_has_site_and_line_filled_in() -> None:
    settings = read(HEAD + "site: plant-a\nline: line-1\n")
    assert settings.events.stream_key(settings.site, settings.line) == "linewatch:plant-a:line-1:events"


def test_the_file_is_the_named_one_then_the_environments_then_cameras_yaml() -> None:
    env = {"LINEWATCH_CONFIG": "/x.yaml"}
    assert find("a.yaml", env) == Path("a.yaml")
    assert find(None, env) == Path("/x.yaml")
    assert find(None, {}) == Path("cameras.yaml")


def test_a_missing_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file; name one with --config"):
        load(tmp_path / "cameras.yaml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"version: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "c.yaml", {})


# In each snippet `# <-` marks the line that the message must name.
WRONG = {
    "unknown_key": ("fpss: 3", "cameras.top.fpss: unknown key, did you mean fps?"),
    "wrong_type": ("fps: ten", "cameras.top.fps: is 'ten', expected a number"),
    "impossible": ("fps: 0", "cameras.top.fps: is 0, expected more than 0"),
    "yes": ("detect: {on_frames: yes}", "cameras.top.detect.on_frames: is true, expected a number"),
    "choice": ("frames: evry", "cameras.top.frames: is 'evry', expected latest or every, did you mean"),
    "pattern": ("tiles: 9x9", "cameras.top.tiles: does not fit, expected: ROWSxCOLUMNS"),
    "outside": ("roi: [[0, 0], [2, 0], [1, 1]]", "cameras.top.roi: a point lies outside the picture"),
    "two_points": ("roi: [[0, 0], [1, 0]]", "cameras.top.roi: has 2 points, expected 3 to 64"),
    "flat": ("roi: [[0, 0], [0.5, 0], [1, 0]]", "cameras.top.roi: encloses no area"),
    "crossed": ("roi: [[0, 0], [1, 1], [1, 0], [0, 1]]", "cameras.top.roi: its sides cross"),
    "short_point": ("roi: [[0, 0], [1], [1, 0]]", "cameras.top.roi[1][1]: is missing"),
    "mask_name": ("masks: {Bar Code: {}}", "cameras.top.masks.Bar Code: is 'Bar Code'"),
    "model": ("model: Top@newest", "cameras.top.model.ref: does not fit, expected: NAME@latest or NAME@7"),
    "infinite": ("down_after_s: .inf", "cameras.top.down_after_s: is not finite"),
    "twice": ("enabled: true\n    enabled: false # <-", "cameras.top.enabled: stands twice, first on line 5"),
    "empty": ("detect:", "cameras.top.detect: is empty, expected keys"),
    "list": ("health: [1]", "cameras.top.health: is a list, expected keys"),
    "number_key": ("masks: {7: {}}", "cameras.top.masks.7: this key is not read as a text"),
    "tag": ("model: !top", "cameras.top.model: can't be read, expected a plain value"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_its_line_its_key_and_what_is_expected(name: str) -> None:
    snippet, expected = WRONG[name]
    text = CAMERA + f"    {snippet}" + ("" if "# <-" in snippet else " # <-") + "\nlogs: {level: info}\n"
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "# <-" in row)
    assert any(said.startswith(f"cameras.yaml:{line}: {expected}") for said in mistakes(text)), mistakes(text)


@pytest.mark.parametrize("name", ["-", "--", "-top"])
def test_a_name_that_begins_with_a_hyphen_is_refused(name: str) -> None:
    """`-` stands for "no camera": a camera of that name would share the system's counter."""
    said = mistakes(CAMERA.replace("top", f"'{name}'") + "\n")
    assert any(f"is '{name}', expected 1 to 64" in line for line in said), said


SOURCES = {
    "type: rtsp, url: 'rtsp://h/s', transprot: tcp": (
        "source.transprot: unknown key, did you mean transport? (read as a source of type rtsp)"
    ),
    "type: rtsp": "source.url: is missing, write `url: 'rtsp://10.0.10.10:554/s1'`: rtsp://",
    "type: rtsp, url: 'http://h/s'": "source.url: does not fit, expected: rtsp:// or rtsps:// address",
    "type: rtps, url: 'rtsp://h/s'": "source.type: unknown type, did you mean rtsp?",
    "url: 'rtsp://h/s'": "source: type is missing, expected one of rtsp, webrtc, usb, file, folder, pushed",
    "type: webrtc, mode: whep": "source: mode whep needs url",
    "type: webrtc, url: 'https://h/whep'": "source: mode whip takes no url",
    "type: usb, device: camera": "source.device: does not fit, expected: Device file",
    "type: pattern, width_px: 641": "source.width_px: is 641, expected a multiple of 2",
    "type: [rtsp]": "source.type: unknown type, expected one of",
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_mistake_in_a_source_names_the_type_it_was_read_as(source: str) -> None:
    (said,) = mistakes(HEAD + f"cameras:\n  top:\n    source: {{{source}}}\n")
    assert said.startswith(f"cameras.yaml:4: cameras.top.{SOURCES[source]}")


WHOLE = {
    "": "cameras.yaml:1: is empty, expected at least version: 1",
    "[1, 2]": "cameras.yaml:1: expected keys, as in version: 1",
    "version: 2": "cameras.yaml:1: version: is 2, this program reads version 1",
    "site: a": "cameras.yaml:1: version: is missing, write `version: 1`: version of the file's form",
    "version: 1\nsite: Plant A": "cameras.yaml:2: site: is 'Plant A', expected 1 to 64 of the letters a-z",
    "version: 1\nline: no": "cameras.yaml:2: line: is false, expected a text (put it in quotes)",
    "version: 1\nlgos: {}": "cameras.yaml:2: lgos: unknown key, did you mean logs?",
    "version: 1\nsite: [": "cameras.yaml:2: is not valid YAML",
    "version: 1\nsite: *x": "cameras.yaml:2: is not valid YAML: found an undefined alias",
    "version: 1\nsite: &a [*a]": "cameras.yaml:1: an alias (*) contains itself",
    "version: 1\n\tsite: a": "cameras.yaml:2: is not valid YAML: found a tab; indent with spaces",
    "version: 1\nsite: \x07": "cameras.yaml:2: is not valid YAML: contains a character",
    "version: 1\nsite: a\n---\nversion: 1": "cameras.yaml:3: is not valid YAML",
    "version: 1\nweb: {listen: 8080}": "cameras.yaml:2: web.listen: is a number, expected a text",
    "version: 1\nweb: {listen: localhost}": "cameras.yaml:2: web.listen: expected ADDRESS:PORT",
    "version: 1\nweb: {webrtc: {udp_ports: 9-8}}": "cameras.yaml:2: web.webrtc.udp_ports: expected FIRST",
    "version: 1\nevents: {url: 'http://h'}": "cameras.yaml:2: events.url: does not fit, expected: embedded",
    "version: 1\nevents: {stream: 'a b:events'}": "cameras.yaml:2: events.stream: expected letters",
    "version: 1\nevents: {tls: {cert_file: a}}": "cameras.yaml:2: events.tls: cert_file and key_file belong",
    "version: 1\nbridges: {m: {type: mqqt}}": "cameras.yaml:2: bridges.m.type: no bridge of type 'mqqt' is",
    "version: 1\nlogs: {json: 3}": "cameras.yaml:2: logs.json: is 3, expected true or false",
    "version: 1\n? [a]\n: 1": "cameras.yaml:2: a key is a list or mapping, expected a text",
}


@pytest.mark.parametrize("text", WHOLE)
def test_a_mistake_anywhere_else_is_said_the_same_way(text: str) -> None:
    assert mistakes(text)[0].startswith(WHOLE[text])


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    said = mistakes(CAMERA + "    fpss: 1\n    tiles: 9x9\nengine: {max_batch: 0}\nlogs: {level: loud}\n")
    assert [int(line.split(":")[1]) for line in said] == [5, 6, 7, 8]


def test_a_wrong_default_is_said_once_and_not_for_each_camera() -> None:
    (said,) = mistakes(CAMERA + "defaults: {detect: {on_frames: 0}}\n")
    assert said.startswith("cameras.yaml:5: defaults.detect.on_frames: is 0")


def test_aliases_that_unfold_without_end_are_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert mistakes(HEAD + "\n".join(rows)) == ("cameras.yaml:1: its aliases (*) unfold to too many values",)


def test_a_deeply_nested_file_is_refused() -> None:
    assert "nested too deeply" in mistakes(HEAD + "site: " + "[" * 5000)[0]


def test_anchors_and_merge_keys_work_as_in_other_yaml() -> None:
    settings = read(
        HEAD
        + "cameras:\n"
        + "  a: &a {source: {type: pattern}, fps: 3}\n"
        + "  b: {<<: *a, fps: 4, tiles: 2x3}\n"
    )
    assert [camera.fps for camera in settings.cameras.values()] == [3, 4]
    assert [camera.tiles for camera in settings.cameras.values()] == [None, "2x3"]


def test_the_environment_goes_over_the_file() -> None:
    settings = read(
        CAMERA,
        {
            "LINEWATCH_CAMERAS__TOP__FPS": "5",
            "LINEWATCH_CAMERAS__TOP__MODEL": "other@3",
            "LINEWATCH_CAMERAS__TOP__ROI": "[[0, 0], [1, 0], [1, 1]]",
            "LINEWATCH_LOGS__JSON": "true",
            "LINEWATCH_SITE": "b",
            "LINEWATCH_EVENTS__PASSWORD": "12345",
        },
    )
    top = settings.cameras["top"]
    assert (top.fps, top.model.ref, len(top.roi or ())) == (5, "other@3", 3)
    assert (settings.logs.as_json, settings.site) == (True, "b")
    assert settings.events.password is not None
    assert settings.events.password.get_secret_value() == "12345"
    assert settings.warnings == ()


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    said = mistakes(
        CAMERA,
        {
            "LINEWATCH_ENGINE__MAX_BATCH": "none",
            "LINEWATCH_CAMERAS__TPO__FPS": "3",
            "LINEWATCH_CAMERS__TOP__FPS": "3",
        },
    )
    assert said == (
        "environment LINEWATCH_CAMERAS__TPO__FPS: cameras.tpo.source: is missing, write "
        "`source: {type: rtsp, url: 'rtsp://10.0.10.10:554/s1'}`: where the pictures come from",
        "environment LINEWATCH_CAMERS__TOP__FPS: camers: unknown key, did you mean cameras?",
        "environment LINEWATCH_ENGINE__MAX_BATCH: engine.max_batch: is 'none', expected a whole number",
    )


def test_variables_that_kubernetes_sets_for_a_service_are_no_mistake() -> None:
    assert (
        read(HEAD, {"LINEWATCH_PORT_8080_TCP": "tcp://10.0.0.1:8080", "LINEWATCH_CONFIG": "x"}).warnings == ()
    )


def test_a_variable_that_looks_like_a_setting_is_warned_about() -> None:
    assert "did you mean site?" in read(HEAD, {"LINEWATCH_SITES": "a"}).warnings[0]


def test_the_checksum_moves_with_a_setting_and_not_with_a_secret() -> None:
    def rtsp(password: str, fps: int = 5) -> Settings:
        return read(
            HEAD + "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', password: {env: P}}, "
            f"fps: {fps}}}}}",
            {"P": password},
        )

    assert config_sha256(rtsp("one")) == config_sha256(rtsp("two"))
    assert config_sha256(rtsp("one")) != config_sha256(rtsp("one", fps=6))
    assert [secret.get_secret_value() for secret in secrets_of(rtsp("one"))] == ["one"]


def test_equal_text_gives_equal_cameras_so_that_a_reload_touches_only_what_changed() -> None:
    before, after = read(CAMERA + "  b: {source: {type: pattern}}\n"), read(CAMERA)
    assert before.cameras["top"] == after.cameras["top"]


def test_settings_can_be_made_in_code() -> None:
    settings = Settings.model_validate(
        {"version": 1, "cameras": {"a": {"source": PatternSource(type="pattern", seed=4)}}}
    )
    source = settings.cameras["a"].source
    assert isinstance(source, PatternSource)
    assert source.seed == 4
    assert not isinstance(source, RtspSource)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a source and a sink of its own."""
    package = tmp_path / "vendor-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[linewatch.sources]\ngige = vendor:build\n[linewatch.sinks]\nmes = vendor\n"
    )
    (tmp_path / "vendor.py").write_text(
        "from pydantic import BaseModel, SecretStr\nNEEDS = {}\n"
        "class Login(BaseModel):\n    password: SecretStr\n"
        "class Options(BaseModel):\n    url: str\n    login: Login\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    installed.cache_clear()
    yield
    installed.cache_clear()


@pytest.mark.usefixtures("vendor")
def test_a_vendors_source_takes_any_options_and_its_secrets_are_hidden() -> None:
    settings = read(
        HEAD
        + "cameras: {a: {source: {type: gige, mac: '00:11', retries: 3, api_key: {env: K}}}}\n"
        + "bridges: {m: {type: mes, url: 'https://mes', login: {password: {env: K}}}}\n",
        {"K": "hunter2"},
    )
    source, bridge = settings.cameras["a"].source, settings.bridges["m"]
    assert isinstance(source, PluginSource)
    assert (source.type, source.options["mac"], source.options["retries"]) == ("gige", "00:11", 3)
    assert source.options["api_key"].get_secret_value() == "hunter2"
    assert bridge.options.model_dump()["login"]["password"].get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r}{settings.model_dump_json()}{settings.warnings}"
    assert [secret.get_secret_value() for secret in secrets_of(settings)] == ["hunter2", "hunter2"]


@pytest.mark.usefixtures("vendor")
def test_a_vendors_secrets_are_hidden_in_lists_too() -> None:
    source = "{type: gige, heads: [{mac: '00:11', password: {env: K}}]}"
    settings = read(HEAD + f"cameras: {{a: {{source: {source}}}}}\n", {"K": "hunter2"})
    assert [secret.get_secret_value() for secret in secrets_of(settings)] == ["hunter2"]


@pytest.mark.usefixtures("vendor")
def test_a_mistyped_source_is_compared_with_what_vendors_bring_too() -> None:
    (said,) = mistakes(HEAD + "cameras: {a: {source: {type: gigi}}}")
    assert said == "cameras.yaml:2: cameras.a.source.type: unknown type, did you mean gige?"


@pytest.mark.parametrize(
    ("file", "variable", "value", "expected"),
    [
        ("bracket@7", "MODEL__SIZE", "r18", ("bracket@7", "r18")),
        ("{ref: bracket@7, size: r18}", "MODEL", "side@2", ("side@2", "r18")),
    ],
)
def test_a_variable_for_one_key_of_a_model_leaves_the_others(
    file: str, variable: str, value: str, expected: tuple[str, str]
) -> None:
    text = HEAD + f"cameras: {{top: {{source: {{type: pattern}}, model: {file}}}}}\n"
    model = read(text, {f"LINEWATCH_CAMERAS__TOP__{variable}": value}).cameras["top"].model
    assert (model.ref, model.size) == expected


def test_a_character_in_two_halves_is_one_and_half_of_it_is_a_mistake() -> None:
    text = HEAD + 'events: {username: "\\ud83c\\udfa5"}\n'
    assert read(text).events.username == "\U0001f3a5"
    half = "holds half a character (\\ud800 to \\udfff), expected whole ones"
    assert mistakes(text.replace("\\udfa5", "")) == (f"cameras.yaml:2: events.username: {half}",)
    assert mistakes(HEAD + '"\\ud83c": 1\n')[0] == f"cameras.yaml:2: {half}"


def test_a_file_from_a_windows_editor_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfversion: 1\r\nsite: a\r\n")
    assert load(tmp_path / "c.yaml", {}).site == "a"


WHIP = HEAD + "cameras:\n  top:\n    source: {type: webrtc}\n"


def test_a_push_that_others_can_reach_needs_a_token() -> None:
    [line] = mistakes(WHIP + "web:\n  listen: 0.0.0.0:8080\n  users_file: users.yaml\n")
    assert line.startswith("cameras.yaml:5") and "camera top takes pushes (whip) from anybody" in line


@pytest.mark.parametrize(
    "allowed",
    [
        WHIP,
        WHIP + "web: {listen: '[::1]:80'}\n",
        WHIP + "web: {listen: '0.0.0.0:80', insecure: true}\n",
        WHIP.replace("webrtc}", "webrtc, token: secret-of-top}") + "web: {listen: '0.0.0.0:80'}\n",
    ],
)
def test_a_push_with_a_token_or_from_this_machine_is_fine(allowed: str) -> None:
    assert list(read(allowed).cameras) == ["top"]
