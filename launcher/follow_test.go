package launcher_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/launcher"
	"github.com/levinrun/levin/launcher/agent"
	"github.com/levinrun/levin/launcher/sshtest"
)

// eventually waits for what happens in another process and sends no event.
func eventually(t testing.TB, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

// followed runs work that writes 8 MiB to out/model, waits until that is here
// although the work still runs, lets it go on with the rest of its script, and
// gives what Fetch made of its outputs.
func followed(t *testing.T, rest string, meanwhile func(srv *sshtest.Server)) (dst string, exit agent.Exit) {
	t.Helper()
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	gate := filepath.Join(t.TempDir(), "gate")
	if _, err := s.Ship(t.Context(), "train", []launcher.Tree{{Root: tree(t, map[string]string{"a": "a"})}}); err != nil {
		t.Fatal(err)
	}
	err := s.Start(t.Context(), agent.StartRequest{
		ID: "call-a1", Folder: "train", Outputs: []string{"out/**"}, Env: []string{"GATE=" + gate},
		Shell: `mkdir out; head -c 8388608 /dev/urandom > out/model; echo small > out/note
			while [ ! -e "$GATE" ]; do sleep 0.05; done
			` + rest,
	})
	if err != nil {
		t.Fatal(err)
	}
	dst = filepath.Join(t.TempDir(), "artifacts")
	following := s.Follow(t.Context(), "call-a1", []string{"out/**"}, dst)
	part := filepath.Join(dst, ".levin-follow-0")
	eventually(t, "the model", func() bool { return sizeOf(part) == 8<<20 })
	if meanwhile != nil {
		meanwhile(srv)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, _ = wait(t, s, "call-a1")
	if exit.Code != 0 || exit.Error != "" {
		t.Fatalf("exit %+v", exit)
	}
	if err := following.Fetch(t.Context(), exit.Artifacts); err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	// What came is what the work left, and nothing else is there.
	want := map[string]bool{}
	for _, a := range exit.Artifacts {
		want[a.Path] = true
		if a.Link != "" {
			if target, err := os.Readlink(filepath.Join(dst, a.Path)); err != nil || target != a.Link {
				t.Errorf("%s leads to %q, %v; want %q", a.Path, target, err, a.Link)
			}
			continue
		}
		got, err := os.ReadFile(filepath.Join(dst, a.Path))
		if err != nil || digestOf(string(got)) != a.Digest {
			t.Errorf("%s: digest %s, want %s (%v)", a.Path, digestOf(string(got)), a.Digest, err)
		}
		made, err := os.ReadFile(filepath.Join(srv.Home, ".levin-agent", "machines", "m-1", "work", "train", a.Path))
		if err == nil && !bytes.Equal(got, made) {
			t.Errorf("%s is not what is on the machine", a.Path)
		}
	}
	filepath.Walk(dst, func(path string, info os.FileInfo, err error) error {
		if rel, _ := filepath.Rel(dst, path); err == nil && !info.IsDir() && !want[rel] {
			t.Errorf("%s is no artifact", rel)
		}
		return nil
	})
	return dst, exit
}

func TestFollowBringsOutputsWhileTheWorkRuns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, rest string
		files      int
	}{
		{"it ends", ``, 2},
		{"it adds", `printf more >> out/model`, 2},
		{"it adds a lot", `head -c 5000000 /dev/urandom >> out/model`, 2},
		{"it changes the beginning", `printf XX | dd of=out/model conv=notrunc 2>/dev/null`, 2},
		{"it changes the middle and adds", `printf XX | dd of=out/model bs=1 seek=4000000 conv=notrunc 2>/dev/null; printf more >> out/model`, 2},
		{"it cuts", `truncate -s 1000 out/model`, 2},
		{"it replaces", `head -c 9000000 /dev/urandom > out/next; mv out/next out/model`, 2},
		{"it removes", `rm out/model`, 1},
		{"it puts a link there", `mv out/model out/real; ln -s real out/model`, 3},
		{"it puts a folder there", `mv out/model out/real; mkdir out/model; mv out/real out/model/model`, 2},
		{"it changes the mode", `chmod 750 out/model`, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dst, exit := followed(t, tt.rest, nil)
			if len(exit.Artifacts) != tt.files {
				t.Errorf("artifacts %+v", exit.Artifacts)
			}
			if tt.name == "it changes the mode" {
				if info, err := os.Stat(filepath.Join(dst, "out/model")); err != nil || info.Mode() != 0o750 {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
			}
		})
	}
}

// A connection that breaks between costs nothing but a new one.
func TestFollowGoesOnAfterABreak(t *testing.T) {
	t.Parallel()
	followed(t, `head -c 3000000 /dev/urandom >> out/model`, func(srv *sshtest.Server) { srv.DropAll() })
}

func TestFollowThatIsDroppedLeavesNothing(t *testing.T) {
	t.Parallel()
	srv := sshtest.New(t)
	s := connect(t, config(t), srv.Target())
	if _, err := s.Ship(t.Context(), "train", []launcher.Tree{{Root: tree(t, map[string]string{"a": "a"})}}); err != nil {
		t.Fatal(err)
	}
	err := s.Start(t.Context(), agent.StartRequest{ID: "call-a1", Folder: "train", Outputs: []string{"model"}, Shell: "head -c 3000000 /dev/urandom > model; sleep 100"})
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "artifacts")
	following := s.Follow(t.Context(), "call-a1", []string{"model"}, dst)
	eventually(t, "the model", func() bool { return sizeOf(filepath.Join(dst, ".levin-follow-0")) == 3000000 })
	following.Drop()
	if _, err := os.Stat(dst); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dst, err)
	}
}

// An agent that lies about outputs that grow writes nothing outside the folder,
// and nothing under an artifact's name.
func TestHostileFollow(t *testing.T) {
	t.Parallel()
	piece := func(h any, content string) []byte {
		header, _ := json.Marshal(h)
		var b bytes.Buffer
		binary.Write(&b, binary.BigEndian, uint32(len(header)))
		b.Write(header)
		b.WriteString(content)
		return b.Bytes()
	}
	header := func(path string, offset int64, size int) agent.FollowHeader {
		return agent.FollowHeader{Path: path, Node: 1, Offset: offset, Size: size}
	}
	good := cluster.Artifact{Path: "model", Digest: digestOf("good"), Size: 4, Mode: 0o644}
	for name, body := range map[string][]byte{
		"path that leaves":       piece(header("../model", 0, 3), "bad"),
		"absolute path":          piece(header("/tmp/levin-hostile", 0, 3), "bad"),
		"name of a part":         piece(header(".levin-follow-0", 0, 3), "bad"),
		"wrong content":          piece(header("model", 0, 3), "bad"),
		"more than there is":     piece(header("model", 0, 9), "bad bytes"),
		"a hole":                 piece(header("model", 1000, 3), "bad"),
		"offset below 0":         piece(header("model", -1, 3), "bad"),
		"size below 0":           piece(header("model", 0, -3), ""),
		"size of a terabyte":     piece(header("model", 0, 1<<40), "bad"),
		"header of a gigabyte":   {0x40, 0, 0, 0},
		"header that is no JSON": {0, 0, 0, 2, '{', '{'},
		"half a header":          {0, 0, 0, 9, '{'},
		"nothing":                {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fakeAgent(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/follow"):
					w.Header().Set("Content-Encoding", "zstd")
					zw, _ := zstd.NewWriter(w)
					zw.Write(body)
					zw.Close()
				case strings.Contains(r.URL.Path, "/outputs/"):
					var offset int
					fmt.Sscan(r.URL.Query().Get("offset"), &offset)
					io.WriteString(w, "good"[offset:])
				default:
					answer(w, agent.Info{Protocol: agent.ProtocolVersion})
				}
			}))
			above := t.TempDir()
			dst := filepath.Join(above, "artifacts")
			following := s.Follow(t.Context(), "call-a1", []string{"model"}, dst)
			if err := following.Fetch(t.Context(), []cluster.Artifact{good}); err != nil {
				t.Fatalf("Fetch: %v", err)
			}
			got, err := os.ReadFile(filepath.Join(dst, "model"))
			if err != nil || string(got) != "good" {
				t.Errorf("model is %q, %v", got, err)
			}
			for dir, want := range map[string]int{above: 1, dst: 1} {
				if entries, _ := os.ReadDir(dir); len(entries) != want {
					t.Errorf("%s holds %v", dir, entries)
				}
			}
		})
	}
}
