package protocol

import "strings"

// OrderAgain begins the advice in the message of a refusal that may pass. It comes after the cause and ends the message:
// `receiver "vhf" is not connected: order it again when it is`.
const OrderAgain = "order it again"

// Cause is a message without that advice, for who orders again by himself.
func Cause(message string) string {
	i := strings.LastIndex(message, OrderAgain)
	if i < 0 {
		return message
	}
	cause := strings.TrimRight(message[:i], " :;,")
	if cause == "" {
		return message
	}
	return cause
}

// NewReply makes a reply to a command, for the acquisition that the command is part of, if any.
func NewReply(cmd *Command, state Reply_State) *Reply {
	reply := &Reply{CommandId: cmd.Id, State: &state}
	if c := cmd.GetCapture(); c != nil {
		reply.Acquisition = c.Acquisition
	}
	return reply
}
