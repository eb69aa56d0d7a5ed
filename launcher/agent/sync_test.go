package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (m *machine) work() string { return m.layout().work("w") }

func (m *machine) wantTree(want tree) {
	m.t.Helper()
	if diff := cmp.Diff(want, readTree(m.t, m.work())); diff != "" {
		m.t.Errorf("work folder: %s", diff)
	}
}

func TestSyncMakesTheFolderWhatWasAsked(t *testing.T) {
	m := newMachine(t)
	steps := []struct {
		name string
		ship tree
		sent int
		work string // what the work does to the folder afterwards
		want tree   // "" for all that was shipped
	}{
		{"first", tree{"a": "1", "b/c": "2", "b/d": "3", "e/": "", "l": "→ b/c"}, 3, "",
			tree{"a": "1", "b/": "", "b/c": "2", "b/d": "3", "e/": "", "l": "→ b/c"}},
		{"nothing new", tree{"a": "1", "b/c": "2", "b/d": "3", "e/": "", "l": "→ b/c"}, 0, "", nil},
		{"one changed", tree{"a": "1+", "b/c": "2", "b/d": "3", "e/": "", "l": "→ b/c"}, 1, "echo mine > b/untracked", nil},
		{"renamed and doubled", tree{"a2": "1+", "x/c": "2", "y/c": "2"}, 0, "",
			tree{"a2": "1+", "b/": "", "b/untracked": "mine\n", "x/": "", "x/c": "2", "y/": "", "y/c": "2"}},
		{"doubled and new", tree{"p": "new", "q": "new", "r/s": "new"}, 1, "",
			tree{"b/": "", "b/untracked": "mine\n", "p": "new", "q": "new", "r/": "", "r/s": "new"}},
		{"file becomes folder", tree{"p/x": "1", "q": "→ p", "r": "file"}, 2, "",
			tree{"b/": "", "b/untracked": "mine\n", "p/": "", "p/x": "1", "q": "→ p", "r": "file"}},
		{"folder becomes file, link a folder", tree{"p": "f", "q/z": "1", "b": "over an untracked folder"}, 2, "", // "1" lies in p/x
			tree{"p": "f", "q/": "", "q/z": "1", "b": "over an untracked folder"}},
		{"empty files", tree{"p": "", "q": ""}, 0, "", tree{"p": "", "q": ""}},
		{"nothing", tree{}, 0, "", tree{}},
	}
	for i, s := range steps {
		if sent := m.sync("w", s.ship); sent != s.sent {
			t.Errorf("%s: %d files sent, want %d", s.name, sent, s.sent)
		}
		if s.want != nil {
			m.wantTree(s.want)
		}
		if s.work != "" {
			if exit := m.run(StartRequest{ID: fmt.Sprintf("s%d", i), Folder: "w", Shell: s.work}); exit.Code != 0 {
				t.Fatalf("%s: %+v", s.name, exit)
			}
		}
	}
	if parts, _ := os.ReadDir(filepath.Join(m.layout().sync("w"), "parts")); len(parts) != 0 {
		t.Errorf("parts are left: %v", parts)
	}
}

func TestSyncSeesWhatTheWorkChanged(t *testing.T) {
	ship := tree{"a": "content", "d/b": "other", "d/c": "third", "l": "→ a", "e/": ""}
	tests := []struct {
		name, work string
		sent       int
	}{
		{"same size, same time", `touch -r a keep; printf CONTENT > a; touch -r keep a`, 1},
		{"replaced", `printf CONTENT > n; mv n a`, 1},
		{"grown", `echo more >> d/b`, 1},
		{"removed", `rm d/b`, 1},
		{"removed, folder too", `rm -r d`, 2},
		{"swapped", `mv d/b x; mv d/c d/b; mv x d/c`, 2},
		{"touched", `touch a d/b d/c`, 0},
		{"folder in its place", `rm a; mkdir -p a/b/c`, 1},
		{"link in its place", `rm a; ln -s d/b a`, 1},
		{"link outside in its place", `rm a; ln -s ../../../victim a`, 1},
		{"link for a folder", `mv d real; ln -s real d`, 2},
		{"link outside for a folder", `rm -r d; ln -s ../../../outside d`, 2},
		{"fifo in its place", `rm a; mkfifo a`, 1},
		{"another link", `rm l; ln -s d l`, 0},
		{"file for a link", `rm l; echo x > l`, 0},
		{"file for a folder", `rmdir e; echo x > e`, 0},
		{"permissions", `chmod 000 a; chmod 777 d/b; chmod 500 d`, 0},
	}
	m := newMachine(t)
	outside := filepath.Join(m.home, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"outside/b", "outside/c", "victim"} {
		if err := os.WriteFile(filepath.Join(m.home, name), []byte("untouched"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := tree{"a": "content", "d/": "", "d/b": "other", "d/c": "third", "l": "→ a", "e/": ""}
	for i, tt := range tests {
		m.sync("w", ship)
		if exit := m.run(StartRequest{ID: fmt.Sprintf("a%d", i), Folder: "w", Shell: tt.work}); exit.Code != 0 {
			t.Fatalf("%s: %+v %s", tt.name, exit, m.log(fmt.Sprintf("a%d", i)))
		}
		sent := m.sync("w", ship)
		if sent != tt.sent {
			t.Errorf("%s: %d files sent, want %d", tt.name, sent, tt.sent)
		}
		got := readTree(t, m.work())
		for p := range want {
			if got[p] != want[p] {
				t.Errorf("%s: %s is %q, want %q", tt.name, p, got[p], want[p])
			}
		}
		if info, err := os.Lstat(filepath.Join(m.work(), "a")); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: mode of a is %v, %v", tt.name, info.Mode(), err)
		}
		for _, name := range []string{"outside/b", "outside/c", "victim"} {
			if data, _ := os.ReadFile(filepath.Join(m.home, name)); string(data) != "untouched" {
				t.Fatalf("%s: %s outside the folder was changed", tt.name, name)
			}
		}
		for p := range got {
			if _, shipped := want[p]; !shipped {
				_ = removeAll(filepath.Join(m.work(), p))
			}
		}
	}
}

// A folder is the same only as long as nothing that was shipped is touched.
func TestSame(t *testing.T) {
	ship := tree{"a": "content", "d/b": "other", "d/c": "third", "l": "→ a", "e/": ""}
	digest := ManifestDigest(ship.entries())
	m := newMachine(t)
	same := func(digest string) bool {
		var answer SameAnswer
		m.post("/v1/sync/w/same", SameRequest{Digest: digest}, &answer)
		return answer.Same
	}
	if same(digest) || same(ManifestDigest(nil)) {
		t.Error("a folder that there is not is the same")
	}
	for i, work := range []string{
		`touch -r a keep; printf CONTENT > a; touch -r keep a`, `printf content > n; mv n a`, `rm d/b`, `rm -r d`, `touch d/c`,
		`rm a; mkdir a`, `rm a; mkfifo a`, `rm a; ln -s d/b a`, `mv d real; ln -s real d`, `rm l; ln -s d l`, `rm l; ln -s a/ l`,
		`rm l; echo x > l`, `rmdir e; echo x > e`, `rmdir e`, `chmod 600 a`, `chmod 700 e`,
	} {
		// Files that have just been put in place prove nothing yet.
		eventually(t, "the folder is the same", func() bool { m.sync("w", ship); return same(digest) })
		m.run(StartRequest{ID: fmt.Sprintf("u%d", i), Folder: "w", Shell: "echo > untracked; echo > d/untracked; echo > e/untracked; rm e/untracked"})
		if !same(digest) {
			t.Errorf("untracked files count")
		}
		if exit := m.run(StartRequest{ID: fmt.Sprintf("a%d", i), Folder: "w", Shell: work}); exit.Code != 0 {
			t.Fatalf("%s: %+v", work, exit)
		}
		if same(digest) {
			t.Errorf("the same after %s", work)
		}
		m.sync("w", ship)
	}

	// It ends a sync that was on its way, and knows of one that was not committed.
	eventually(t, "the folder is the same", func() bool { m.sync("w", ship); return same(digest) })
	m.post("/v1/sync", SyncRequest{Folder: "w", Entries: tree{"n": "new"}.entries()}, nil)
	if same(ManifestDigest(tree{"n": "new"}.entries())) || !same(digest) {
		t.Error("a sync that was asked for counts")
	}
	wantKind(t, "commit after same", m.call("POST", "/v1/sync/w/commit", nil, nil), KindConflict)
	m.killServe()
	m.start()
	if !same(digest) {
		t.Error("not the same after the agent was killed")
	}

	fewer := tree{"a": "content"}
	m.sync("w", fewer)
	if same(digest) {
		t.Error("the same although files are gone")
	}
	m.startCall(StartRequest{ID: "busy", Folder: "w", Shell: "exec sleep 600"})
	wantKind(t, "same under work", m.call("POST", "/v1/sync/w/same", SameRequest{Digest: digest}, nil), KindConflict)
	wantKind(t, "no digest", m.call("POST", "/v1/sync/w/same", SameRequest{Digest: "x"}, nil), KindBadRequest)
	m.post("/v1/calls/busy/stop", nil, nil)
}

func TestSyncSetsModes(t *testing.T) {
	m := newMachine(t)
	for _, mode := range []uint32{0o755, 0o600, 0o444, 0o000, 0o777} {
		entries := []Entry{{Path: "f", Mode: mode, Size: 1, Digest: digestText("x")}, {Path: "g", Mode: 0o640, Size: 1, Digest: digestText("x")},
			{Path: "d", Dir: true, Mode: mode}}
		if _, err := m.trySync("w", entries, tree{"f": "x", "g": "x"}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{"f": os.FileMode(mode), "g": 0o640, "d": os.ModeDir | os.FileMode(mode) | 0o700} {
			if info, err := os.Lstat(filepath.Join(m.work(), name)); err != nil || info.Mode() != want {
				t.Errorf("%s is %v, want %v: %v", name, info.Mode(), want, err)
			}
		}
	}
}

func TestSyncRefusesHostileManifests(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"safe": "1"})
	for name, entries := range hostile() {
		var e *Error
		err := m.call("POST", "/v1/sync", SyncRequest{Folder: "w", Entries: entries}, nil)
		if !errors.As(err, &e) || e.Kind != KindBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, folder := range []string{"", "..", "a/b", "A"} {
		if err := m.call("POST", "/v1/sync", SyncRequest{Folder: folder}, nil); err == nil {
			t.Errorf("folder %q was taken", folder)
		}
	}
	m.wantTree(tree{"safe": "1"})
}

// upload sends frames as they are given.
func (m *machine) upload(frames map[FileFrame]string) error {
	var body bytes.Buffer
	w, err := NewFrameWriter(&body)
	if err != nil {
		return err
	}
	for f, content := range frames {
		f.Size -= f.Offset
		if err := errors.Join(w.WriteFile(FileFrame{Digest: f.Digest, Size: f.Size + f.Offset, Offset: f.Offset}, strings.NewReader(content))); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return m.call("POST", "/v1/sync/w/files", &body, nil)
}

func wantKind(t *testing.T, what string, err error, kind string) {
	t.Helper()
	if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("%s: %v, want kind %q", what, err, kind)
	}
}

func TestUploadsAreVerified(t *testing.T) {
	m := newMachine(t)
	m.sync("w", tree{"f": "old"})
	large := strings.Repeat("l", 3*copyBuffer)
	entries := tree{"f": "new", "g": large}.entries()
	commit := func() error { return m.call("POST", "/v1/sync/w/commit", nil, nil) }

	wantKind(t, "upload without a sync", m.upload(map[FileFrame]string{frameOf("new", 0): "new"}), KindConflict)
	wantKind(t, "commit without a sync", commit(), KindConflict)
	m.post("/v1/sync", SyncRequest{Folder: "w", Entries: entries}, nil)
	wantKind(t, "commit before all is there", commit(), KindConflict)
	wantKind(t, "wrong content", m.upload(map[FileFrame]string{frameOf("new", 0): "bad"}), KindUntrusted)
	wantKind(t, "wrong large content", m.upload(map[FileFrame]string{frameOf(large, 0): strings.Replace(large, "l", "x", 1)}), KindUntrusted)
	wantKind(t, "not asked for", m.upload(map[FileFrame]string{frameOf("other", 0): "other"}), KindBadRequest)
	wantKind(t, "wrong size", m.upload(map[FileFrame]string{{Digest: digestText("new"), Size: 4}: "new!"}), KindBadRequest)
	wantKind(t, "from nowhere", m.upload(map[FileFrame]string{frameOf("new", 1): "ew"}), KindConflict)
	for name, stream := range hostileStreams(t) {
		if err := m.call("POST", "/v1/sync/w/files", bytes.NewReader(stream), nil); err == nil {
			t.Errorf("stream %q was taken", name)
		}
	}
	wantKind(t, "commit after all that", commit(), KindConflict)
	m.wantTree(tree{"f": "old"})

	if sent := m.sync("w", tree{"f": "new", "g": large}); sent != 2 {
		t.Errorf("%d files sent, want 2", sent)
	}
	m.wantTree(tree{"f": "new", "g": large})
}

func TestBrokenUploadGoesOn(t *testing.T) {
	for _, size := range []int{copyBuffer * 10, copyBuffer * 2} {
		m := newMachine(t)
		content := make([]byte, size)
		if _, err := rand.Read(content); err != nil {
			t.Fatal(err)
		}
		tr := tree{"big": string(content), "small": "s"}
		entries := tr.entries()
		ask := func() Need {
			var need SyncNeed
			m.post("/v1/sync", SyncRequest{Folder: "w", Entries: entries}, &need)
			i := slices.IndexFunc(need.Need, func(n Need) bool { return entries[n.Index].Path == "big" })
			if i < 0 {
				t.Fatalf("need %+v", need)
			}
			return need.Need[i]
		}
		ask()
		// The connection breaks after three quarters.
		body, in := io.Pipe()
		var sender sync.WaitGroup
		sender.Go(func() {
			w, err := NewFrameWriter(in)
			if err != nil {
				t.Error(err)
				return
			}
			half := bytes.NewReader(content[:size*3/4])
			if err := w.WriteFile(frameOf(string(content), 0), half); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("sending: %v", err)
			}
			_ = w.zw.flush()
			eventually(t, "a quarter is on disk", func() bool {
				parts, _ := filepath.Glob(filepath.Join(m.layout().sync("w"), "parts", "*", "*.part"))
				if len(parts) != 1 {
					return false
				}
				info, err := os.Stat(parts[0])
				return err == nil && info.Size() >= int64(size/4)
			})
			in.CloseWithError(errors.New("broken"))
		})
		if err := m.call("POST", "/v1/sync/w/files", body, nil); err == nil {
			t.Fatal("the upload did not break")
		}
		sender.Wait()
		m.killServe() // and the agent too
		m.start()
		n := ask()
		if n.Offset < int64(size/4) || n.Offset > int64(size*3/4) {
			t.Errorf("goes on at %d of %d", n.Offset, size)
		}
		if _, err := m.trySync("w", entries, tr); err != nil {
			t.Fatal(err)
		}
		m.wantTree(tr)
	}
}

func TestUploadsSideBySide(t *testing.T) {
	m := newMachine(t)
	tr := tree{}
	for i := range 40 {
		tr[fmt.Sprintf("d%d/f", i%7)+fmt.Sprint(i)] = strings.Repeat(fmt.Sprint(i), 20_000)
	}
	entries := tr.entries()
	var need SyncNeed
	m.post("/v1/sync", SyncRequest{Folder: "w", Entries: entries}, &need)
	if len(need.Need) != len(tr) {
		t.Fatalf("need %d files, want %d", len(need.Need), len(tr))
	}
	var senders sync.WaitGroup
	for part := range 4 {
		senders.Go(func() {
			frames := map[FileFrame]string{}
			for i, n := range need.Need {
				if i%4 == part {
					content := tr[entries[n.Index].Path]
					frames[frameOf(content, 0)] = content
				}
			}
			if err := m.upload(frames); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	m.post("/v1/sync/w/commit", nil, nil)
	got := readTree(t, m.work())
	for p, content := range tr {
		if got[p] != content {
			t.Errorf("%s is wrong", p)
		}
	}
}

// A controller whose connection broke asks again while the agent still waits for
// the rest of the old upload.
func TestAskingAgainEndsOldUploads(t *testing.T) {
	m := newMachine(t)
	content := strings.Repeat("0123456789", copyBuffer/2)
	tr := tree{"big": content}
	m.post("/v1/sync", SyncRequest{Folder: "w", Entries: tr.entries()}, nil)
	body, in := io.Pipe()
	failed := make(chan error, 1)
	go func() { failed <- m.call("POST", "/v1/sync/w/files", body, nil) }()
	w, err := NewFrameWriter(in)
	if err != nil {
		t.Fatal(err)
	}
	stall := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		r := io.MultiReader(strings.NewReader(content[:len(content)/2]), readerFunc(func([]byte) (int, error) { <-stall; return 0, io.EOF }))
		_ = w.WriteFile(frameOf(content, 0), r)
	})
	eventually(t, "a part is written", func() bool {
		parts, _ := filepath.Glob(filepath.Join(m.layout().sync("w"), "parts", "*", "*.part"))
		return len(parts) == 1
	})
	if _, err := m.trySync("w", tr.entries(), tr); err != nil {
		t.Errorf("asking again: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the old upload went well")
	}
	close(stall)
	in.Close()
	sender.Wait()
	m.wantTree(tr)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestCompressedManifest(t *testing.T) {
	m := newMachine(t)
	body := compress(t, []byte(`{"folder":"w","entries":[{"path":"a","mode":420,"size":1,"digest":"`+digestText("x")+`"}]}`))
	resp, err := m.do("POST", "/v1/sync", bytes.NewReader(body), "Content-Encoding", "zstd", "Accept-Encoding", "zstd")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	zr, err := newZstdReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	if got, err := io.ReadAll(zr); string(got) != `{"need":[{"i":0}]}`+"\n" || err != nil {
		t.Errorf("answer %q, %v", got, err)
	}
	if resp.Header.Get("Content-Encoding") != "zstd" || resp.StatusCode != http.StatusOK {
		t.Errorf("answer %v", resp.Header)
	}
}

// FuzzSyncManifest: whatever manifests follow each other, nothing outside the
// folder changes, and a sync that is accepted leaves exactly what it asked for.
// A manifest is lines of "path=content", "path→target" and "path/"; "--" starts
// the next one.
func FuzzSyncManifest(f *testing.F) {
	f.Add("a=1\nb/c=2\nl→b\n--\nl/x=3\na→l")
	f.Add("a→..\n--\na→b\nb=1\n--\na/b/c=1")
	f.Add("../victim=1")
	f.Add("a/../../victim=1\n--\n/etc/passwd=1")
	f.Add("d/\ne=1\n--\ne/\nd=1\n--\nd→e\ne/f=\ng=1")
	f.Add("a→x\n--\na/victim=1\n--\na→../victim")
	f.Fuzz(func(t *testing.T, script string) {
		if strings.Count(script, "\n") > 50 {
			t.Skip("long enough")
		}
		home := t.TempDir()
		victim := filepath.Join(home, "victim")
		if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
			t.Fatal(err)
		}
		fo := &folder{name: "w", layout: layout{machine: "m", dir: filepath.Join(home, "m")}, uploads: map[*upload]bool{}}
		for manifest := range strings.SplitSeq(script, "\n--\n") {
			entries, contents := parseManifest(manifest)
			if err := shipInProcess(t, fo, entries, contents); err != nil {
				continue
			}
			checkTree(t, fo.layout.work("w"), entries, contents)
		}
		names, err := os.ReadDir(home)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if n.Name() != "victim" && n.Name() != "m" {
				t.Errorf("%s appeared outside the folder", n.Name())
			}
		}
		if data, _ := os.ReadFile(victim); string(data) != "untouched" {
			t.Error("a file outside the folder was changed")
		}
	})
}

func parseManifest(text string) (entries []Entry, contents map[string]string) {
	contents = map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if p, target, ok := strings.Cut(line, "→"); ok {
			entries = append(entries, Entry{Path: p, Mode: 0o777, Link: target})
		} else if p, content, ok := strings.Cut(line, "="); ok {
			entries = append(entries, Entry{Path: p, Mode: 0o640, Size: int64(len(content)), Digest: digestText(content)})
			contents[digestText(content)] = content
		} else if p, ok := strings.CutSuffix(line, "/"); ok {
			entries = append(entries, Entry{Path: p, Mode: 0o755, Dir: true})
		}
	}
	return entries, contents
}

func shipInProcess(t *testing.T, fo *folder, entries []Entry, contents map[string]string) error {
	need, err := fo.ask(context.Background(), entries)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	w, err := NewFrameWriter(&body)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range need.Need {
		e := entries[n.Index]
		if err := w.WriteFile(FileFrame{Digest: e.Digest, Size: e.Size, Offset: n.Offset}, strings.NewReader(contents[e.Digest][n.Offset:])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := fo.receive(context.Background(), &body, func() {}); err != nil {
		t.Fatalf("what was asked for is refused: %v", err)
	}
	if _, err := fo.commit(); err != nil {
		t.Fatalf("a manifest that was accepted cannot be committed: %v", err)
	}
	return nil
}

func checkTree(t *testing.T, dir string, entries []Entry, contents map[string]string) {
	want := tree{}
	for _, e := range entries {
		for p := filepath.Dir(e.Path); p != "."; p = filepath.Dir(p) {
			want[p+"/"] = ""
		}
		switch {
		case e.Dir:
			want[e.Path+"/"] = ""
		case e.Link != "":
			want[e.Path] = "→ " + e.Link
		default:
			want[e.Path] = contents[e.Digest]
		}
	}
	if diff := cmp.Diff(want, readTree(t, dir)); diff != "" {
		t.Errorf("work folder: %s", diff)
	}
}
