package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/levinrun/levin/cluster"
)

// Stdio is what a command on a machine is joined to. Nil is nothing.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Shell runs a command on a machine, or the login shell when there is none, and
// gives its exit status (128+n when a signal ended it). A command of several
// words runs with exactly these arguments; one single word is a line for the
// machine's shell, as with ssh. Without a command, and when In and Out are a
// terminal, the machine gets a terminal too. Neither an agent nor any folder of
// Levin is needed on the machine. One read of In may still be under way when
// Shell returns.
func Shell(ctx context.Context, cfg Config, t cluster.Target, command []string, stdio Stdio) (exit int, err error) {
	cfg = cfg.withDefaults()
	conn, err := cfg.Dialer.Dial(ctx, t)
	if err != nil {
		return 0, &cluster.Failure{Kind: cluster.Transient, What: "cannot reach the machine at " + address(t), Err: err}
	}
	client, err := handshake(ctx, &wireConn{Conn: conn}, t, cfg.AuthSock, handshakeTimeout)
	if err != nil {
		return 0, err
	}
	defer func() {
		client.Close()
		client.Wait()
	}()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	exit, err = runShell(client, command, stdio)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return exit, err
}

func runShell(client *ssh.Client, command []string, stdio Stdio) (int, error) {
	session, err := client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("opening an SSH session: %w", err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = stdio.In, stdio.Out, stdio.Err
	if len(command) == 0 {
		restore, err := joinTerminals(session, stdio)
		if err != nil {
			return 0, err
		}
		defer restore()
		err = session.Shell()
		if err != nil {
			return 0, fmt.Errorf("starting a shell over SSH: %w", err)
		}
	} else if err := session.Start(shellLine(command)); err != nil {
		return 0, fmt.Errorf("running a command over SSH: %w", err)
	}
	return exitOf(session.Wait())
}

func exitOf(err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, &cluster.Failure{Kind: cluster.Transient, What: "the connection broke", Err: err}
	case exit.Signal() != "":
		return 128 + signalNumber(exit.Signal()), nil
	}
	return exit.ExitStatus(), nil
}

// joinTerminals gives the far end a terminal like ours, when ours is one, and
// puts ours into raw mode until the function it returns is called.
func joinTerminals(session *ssh.Session, stdio Stdio) (restore func(), err error) {
	in, inOK := terminal(stdio.In)
	out, outOK := terminal(stdio.Out)
	if !inOK || !outOK {
		return func() {}, nil
	}
	width, height, err := term.GetSize(out)
	if err != nil {
		width, height = 80, 24
	}
	kind := os.Getenv("TERM")
	if kind == "" {
		kind = "xterm"
	}
	if err := session.RequestPty(kind, height, width, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("asking the machine for a terminal: %w", err)
	}
	state, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("putting the terminal into raw mode: %w", err)
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range changes {
			if width, height, err := term.GetSize(out); err == nil {
				_ = session.WindowChange(height, width)
			}
		}
	})
	return func() {
		signal.Stop(changes)
		close(changes)
		wg.Wait()
		_ = term.Restore(in, state)
	}, nil
}

func terminal(stream any) (fd int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok || f == nil {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// shellLine makes a line for the machine's shell.
func shellLine(command []string) string {
	if len(command) == 1 {
		return command[0]
	}
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// quote makes any text one word of a shell.
func quote(s string) string {
	plain := s != ""
	for _, r := range s {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./:,@+", r)) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// signalNumber gives a signal's usual number from its name in SSH.
func signalNumber(name string) int {
	numbers := map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
		"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
		"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
	return int(numbers[name])
}
