// Listen for all notifications
socket.on('notification', (payload) => {
  const { notification, data } = payload;
  handleNotification(notification, data);
});

// Listen for specific entity updates
socket.on('ticket.update', (payload) => {
  const { data } = payload;
  updateTicketInUI(data);
});

socket.on('comment.update', (payload) => {
  const { data } = payload;
  updateCommentInUI(data);
});

socket.on('user.update', (payload) => {
  const { data } = payload;
  updateUserInUI(data);
});

socket.on('kb.update', (payload) => {
  const { data } = payload;
  updateKBArticleInUI(data);
});

socket.on('attachment.update', (payload) => {
  const { data } = payload;
  updateAttachmentInUI(data);
});
