package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// connect joins stdio to the agent. It ends when the agent's side ends; the end
// of stdin is passed on.
func connect(o options, stdin io.Reader, stdout io.Writer) error {
	l, err := newLayout(o.home, o.machine)
	if err != nil {
		return err
	}
	if err := os.Chdir(l.dir); errors.Is(err, fs.ErrNotExist) {
		return errNoAgent
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := dialAgent(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { // ends with the process: a read of stdin cannot be interrupted
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{stdin}, make([]byte, copyBuffer))
		_ = conn.CloseWrite()
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{stdout}, struct{ io.Reader }{conn}, make([]byte, copyBuffer))
	if n == 0 && errors.Is(err, syscall.ECONNRESET) {
		return errNoAgent // it died between taking the connection and answering
	}
	if err != nil {
		return fmt.Errorf("passing on what the agent says: %w", err)
	}
	return nil
}
