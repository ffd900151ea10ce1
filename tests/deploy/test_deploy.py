"""What `deploy/` and the compose files say is what Kubernetes and Docker Compose read.

Run with the Python of tests/parts/install.sh: `python -m unittest discover -s tests/deploy`. Nothing is started here.
"""

import pathlib
import subprocess
import unittest

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).parents[2]
STACKS = ["docker-compose.yml", "docker-compose.simple.yml"]
GIB = 2**30
UNITS = {"m": 2**20, "g": GIB}


def has_compose():
    try:
        return subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Manifests(unittest.TestCase):
    def test_kubernetes_knows_every_kind_and_field(self):
        resources = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/undercurrent.yaml").read_text()))
        self.assertGreater(len(resources), 5)
        for resource in resources:
            with self.subTest(f"{resource['kind']} {resource['metadata']['name']}"):
                kubernetes_validate.validate(resource, "1.37", strict=True)

    def test_a_field_that_does_not_exist_is_found(self):
        resource = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(resource, "1.37", strict=True)


class Compose(unittest.TestCase):
    @unittest.skipUnless(has_compose(), "`docker compose` is not installed: its own reading of the files is not checked")
    def test_compose_reads_them(self):
        for stack in STACKS:
            with self.subTest(stack):
                read = subprocess.run(["docker", "compose", "-f", stack, "config", "-q"], cwd=ROOT, capture_output=True)
                self.assertEqual((read.returncode, read.stderr), (0, b""))

    def test_every_service_is_limited_and_all_fit_into_12_gib(self):
        for stack in STACKS:
            services = yaml.safe_load((ROOT / stack).read_text())["services"]
            limits = {name: service.get("mem_limit") for name, service in services.items()}
            self.assertNotIn(None, limits.values(), f"{stack}: {limits}")
            bytes = [int(limit[:-1]) * UNITS[limit[-1]] for limit in limits.values()]
            self.assertLessEqual(sum(bytes), 12 * GIB, stack)

    def test_what_is_mounted_is_there(self):
        for stack in STACKS:
            for name, service in yaml.safe_load((ROOT / stack).read_text())["services"].items():
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0] if isinstance(volume, str) else volume.get("source", "")
                    if source.startswith("."):
                        self.assertTrue((ROOT / source).exists(), f"{stack}: {name}: {source}")


if __name__ == "__main__":
    unittest.main()
