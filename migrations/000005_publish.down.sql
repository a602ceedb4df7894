drop function notifyql.publish(text, jsonb, text, boolean, text);
