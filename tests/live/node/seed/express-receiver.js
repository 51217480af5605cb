const express = require('express');
const app = express();

app.post('/api/webhooks/notifications', express.json(), (req, res) => {
  const { event, notification, data } = req.body;

  console.log('Received webhook:', event, notification);

  // Update specific items in your data stores
  if (data) {
    switch (notification.related_type) {
      case 'ticket':
        // Update ticket in cache/database
        updateTicketInStore(data);
        // Emit to connected WebSocket clients
        io.emit('ticket.update', data);
        break;
        
      case 'comment':
        // Update comment in cache/database
        updateCommentInStore(data);
        // Emit to connected WebSocket clients
        io.emit('comment.update', data);
        break;
        
      case 'user':
        // Update user in cache/database
        updateUserInStore(data);
        io.emit('user.updated', data);
        break;
    }
  }

  // Broadcast to connected WebSocket clients
  io.emit('notification', notification);

  // Store in database or update UI state
  // ...

  res.json({ status: 'received' });
});
