import io from 'socket.io-client';

const socket = io();

socket.on('notification', (notification) => {
  // Update notifications list
  addNotification(notification);

  // Show toast notification
  toast.success(notification.message);
});
