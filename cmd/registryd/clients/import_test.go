package clients

import (
	"os"
	"path/filepath"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// TestWhatDockerSavesIsImported takes the tars of live daemons, of either store, into a
// bucket, and has the daemon that saved it pull it from there.
func TestWhatDockerSavesIsImported(t *testing.T) {
	inNamespaces(t)
	need.Binary(t, "iptables")
	root := newerRoot(t)
	engines := map[string]*docker{"docker-20": {t: t, client: need.Binary(t, "docker")}}
	engines["docker-20"].start(need.Binary(t, "dockerd"), "127.0.0.1:5000", nil)
	for store, features := range stores {
		d := &docker{t: t, root: root, client: "/usr/bin/docker"}
		d.start("/usr/sbin/dockerd", "127.0.0.1:5000", features)
		engines["docker-28-"+store] = d
	}
	d29 := &docker{t: t, root: root, client: "/usr/bin/docker"}
	d29.start(bringIn(t, root, need.Binary(t, "dockerd-29")), "127.0.0.1:5000", nil)
	engines["docker-29"] = d29
	tars := map[string]string{}
	for name, d := range engines {
		l := makeLocal(t, "hello from "+name, smallBulk, "saved/"+name+":v1")
		tars[name] = filepath.Join(scratch(t), "saved.tar")
		d.do("load", "-i", l.tar)
		d.do("save", "-o", tars[name], "saved/"+name+":v1")
		d.do("rmi", "--force", "saved/"+name+":v1")
	}
	for _, kind := range []string{"minio", "versitygw"} {
		t.Run(kind, func(t *testing.T) {
			hub := startHub(t)
			hub.goAway()
			b := bucketKinds[kind](t)
			host := startDaemon(t, setup{store: b.store, env: bucketCredentials})
			for name, d := range engines {
				out, err := tryIn(t, "", host.env, filepath.Join(os.Getenv(workKey), "registryd"), "import", "--config="+host.config, "--as=team/"+name+":v1", tars[name])
				if err != nil {
					t.Errorf("import of what %s saved: %v\n%s", name, err, out)
					continue
				}
				ref := host.addr + "/team/" + name + ":v1"
				served := host.metric("registryd_served_bytes_total")
				d.do("pull", ref)
				if served = host.metric("registryd_served_bytes_total") - served; served < smallBulk {
					t.Errorf("%.0f bytes were served to %s: it had the image", served, name)
				}
				if said := d.do(append([]string{"run", "--rm", ref}, readHello...)...); said != "hello from "+name+"\n" {
					t.Errorf("what %s saved and pulled says %q", name, said)
				}
				d.do("rmi", "--force", ref)
			}
		})
	}
}
