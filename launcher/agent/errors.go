package agent

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
)

func badRequest(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Kind: KindBadRequest, Status: http.StatusBadRequest}
}

func notFound(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Kind: KindNotFound, Status: http.StatusNotFound}
}

func conflict(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Kind: KindConflict, Status: http.StatusConflict}
}

func preempted(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Kind: KindPreempted, Status: http.StatusConflict}
}

func untrusted(format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Kind: KindUntrusted, Status: http.StatusUnprocessableEntity}
}

// asError makes any error an answer.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return &Error{Message: "the machine's disk is full: " + err.Error(), Kind: KindDiskFull, Status: http.StatusInsufficientStorage}
	}
	return &Error{Message: err.Error(), Kind: KindInternal, Status: http.StatusInternalServerError}
}
