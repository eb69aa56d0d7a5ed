package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/levinrun/levin/cluster"
)

// ready is what a detached controller tells the process that started it.
type ready struct {
	Run string `json:"run"`
}

// readyFD is the first of exec.Cmd.ExtraFiles.
const detachedFD = 3

// runDetached starts the run in a process of its own session and returns once it
// has begun. Everything that can be refused is refused by that process first, in
// its own words, on this terminal.
func (d *deps) runDetached(ctx context.Context, o runOptions) error {
	p, err := d.prepare(o.App, o.Cloud, o.Set) // bad input is told here, not in a log file
	if err != nil {
		return err
	}
	id := cluster.NewRunID(p.app.Name)
	dir := runDir(p.settings, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &cluster.Failure{Kind: cluster.BadInput, What: "could not make the run's folder", Err: err}
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "controller.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()

	cmd := exec.Command(self, d.detachedArgs(o, id)...)
	cmd.Dir, cmd.Env = d.Dir, d.Env // secrets stay in the environment, where they came from
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{writer}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	writer.Close()
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(reader).ReadBytes('\n') // ends when the child speaks or dies
	var r ready
	if err != nil || json.Unmarshal(line, &r) != nil {
		return d.detachedFailed(cmd, logFile.Name())
	}
	cmd.Process.Release()
	if d.json {
		return json.NewEncoder(d.Stdout).Encode(r)
	}
	fmt.Fprintf(d.Stdout, "%s\n", r.Run)
	fmt.Fprintf(d.Stderr, "runs in the background\n  levin logs -f %s\n  levin ps %s\n  levin stop %s\n", r.Run, r.Run, r.Run)
	return nil
}

// detachedFailed shows what the child said before it gave up.
func (d *deps) detachedFailed(cmd *exec.Cmd, logName string) error {
	cmd.Wait()
	if words, err := os.ReadFile(logName); err == nil {
		d.Stderr.Write(words)
	}
	os.RemoveAll(filepath.Dir(logName)) // the run never began
	return exitError{max(cmd.ProcessState.ExitCode(), 1)}
}

func (d *deps) detachedArgs(o runOptions, id string) []string {
	args := []string{"run", o.App, "--id", id, "--ready-fd", strconv.Itoa(detachedFD)}
	if d.home != "" {
		args = append(args, "--home", d.home)
	}
	if o.Cloud != "" {
		args = append(args, "--cloud", o.Cloud)
	}
	for _, s := range o.Set {
		args = append(args, "--set", s)
	}
	for _, s := range o.Secrets { // names and files only, never values
		args = append(args, "--secret", s)
	}
	if o.Keep > 0 {
		args = append(args, "--keep="+o.Keep.String())
	}
	return args
}

// announceReady tells the process that waits on fd that the run has begun; fd 0
// means that nobody waits.
func announceReady(fd int, run string) error {
	if fd == 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	defer f.Close()
	return json.NewEncoder(f).Encode(ready{run})
}
